"""The prompts that a result is about, as lines of JSON: one prompt a line, told apart by the set that it is of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from entitrack.core.measurement import Measurement, PromptSet
from entitrack.disk.reading import parse_object


def distinct_sets(measurements: Iterable[Measurement]) -> list[PromptSet]:
    """The prompt sets of measurements, each once."""
    sets: list[PromptSet] = []
    for measurement in measurements:
        if measurement.prompts is not None and number_of(measurement.prompts, sets) is None:
            sets.append(measurement.prompts)
    return sets


def number_of(prompts: PromptSet, sets: Sequence[PromptSet]) -> int | None:
    """The place of a prompt set among others; None if it is not there."""
    return next((number for number, known in enumerate(sets) if known is prompts), None)


def prompt_records(sets: Sequence[PromptSet]) -> Iterator[dict[str, Any]]:
    """Each prompt as plain values."""
    for number, prompts in enumerate(sets):
        for row, (text, answer) in enumerate(zip(prompts.texts, prompts.answers, strict=True)):
            facets = {name: values[row].item() for name, values in prompts.facets.items()}
            cluster = int(prompts.clusters[row])
            yield {"set": number, "text": text, "answer": answer, "cluster": cluster, "facets": facets}


def set_records(sets: Sequence[PromptSet]) -> list[dict[str, Any]]:
    """What each set has, for its lines to be held to."""
    return [{"count": len(prompts), "facets": list(prompts.facets)} for prompts in sets]


def prompt_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """A line of JSON a prompt."""
    return "".join(f"{json.dumps(record, allow_nan=False)}\n" for record in records)


def read_sets(lines: str, described: Sequence[Mapping[str, Any]]) -> list[PromptSet]:
    """The sets that `prompt_lines` wrote.

    Args:
        lines: The lines.
        described: What `set_records` says of them.

    Raises:
        ValueError: A line is no prompt, or a set has other prompts than it should.
        KeyError: A prompt lacks something.
    """
    by_set: list[list[dict[str, Any]]] = [[] for _ in described]
    for number, line in enumerate(filter(None, lines.split("\n")), 1):
        try:
            record = parse_object(line)
        except ValueError as error:
            raise ValueError(f"line {number} {error}") from error
        if record.get("set") not in range(len(by_set)):
            raise ValueError(f"line {number} is of a set {record.get('set')!r}, which there is not")
        by_set[record["set"]].append(record)
    return [_set(records, about) for records, about in zip(by_set, described, strict=True)]


def _set(records: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> PromptSet:
    if len(records) != about["count"]:
        raise ValueError(f"has {len(records)} prompts where there should be {about['count']}")
    return PromptSet(
        tuple(str(record["text"]) for record in records),
        tuple(str(record["answer"]) for record in records),
        torch.tensor([record["cluster"] for record in records], dtype=torch.int64),
        {name: torch.tensor([record["facets"][name] for record in records]) for name in about["facets"]},
    )
