"""Box prompts from a file in the paper's format: one `{"sentence": "..."}` a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from random import Random
from typing import ClassVar

from entitrack.cli.limits import Checked, limited
from entitrack.core.errors import UserError, quoted
from entitrack.disk.reading import parse_object, read_bytes, take
from entitrack.tasks.boxes import (
    MOST_BOXES,
    ROLES,
    Box,
    BoxesContext,
    BoxesPrompt,
    background,
    check_compat,
    counterfactual_pairs,
)
from entitrack.tasks.prompts import Pair
from entitrack.tasks.vocabulary import LABELS, OBJECTS

_SEGMENT = re.compile(r"[Tt]he (?P<object>[\w-]+) is in Box (?P<label>[A-Za-z]+)")
_QUESTION = re.compile(r"Box (?P<label>[A-Za-z]+) contains the(?: (?P<answer>[\w-]+))?")
_FORM = '"The book is in Box Q, the key is in Box X. Box Q contains the book"'
_LONGEST_LINE = 1 << 16
"""Bytes; the longest prompt of a dozen boxes has some hundreds."""


def parse_sentence(sentence: str, cluster: int = 0) -> BoxesPrompt:
    """Read a sentence of the paper's data; the answer and the last dot may be there or not.

    Args:
        sentence: `The book is in Box Q, the key is in Box X. Box Q contains the book`.
        cluster: Number of its context.

    Raises:
        ValueError: It says what does not parse.
    """
    text = sentence.strip().removeprefix("<s>").strip().removesuffix(".")
    context_text, dot, question_text = text.partition(". ")
    if not dot:
        raise ValueError("no question after the context")
    boxes = []
    for segment in context_text.split(", "):
        match = _SEGMENT.fullmatch(segment)
        if not match:
            raise ValueError(f"segment {quoted(segment)} is not 'the OBJECT is in Box LABEL'")
        boxes.append(Box(match["object"], match["label"]))
    if len(boxes) > MOST_BOXES:
        raise ValueError(f"{len(boxes)} boxes do not leave letters for a counterfactual; at most {MOST_BOXES} do")
    question = _QUESTION.fullmatch(question_text)
    if not question:
        raise ValueError(f"question {quoted(question_text)} is not 'Box LABEL contains the'")
    context = BoxesContext(tuple(boxes))
    return _resolve(context, question["label"], question["answer"], cluster)


def _resolve(context: BoxesContext, label: str, answer: str | None, cluster: int) -> BoxesPrompt:
    """The prompt that asks for `label`, if the context answers it, once, and with `answer`."""
    if len(set(context.labels)) < len(context.labels):
        raise ValueError("two boxes have the same letter")
    objects = [box.object for box in context.boxes]
    if len(set(objects)) < len(objects):
        raise ValueError("two boxes have the same object")
    if label not in context.labels:
        raise ValueError(f"no box {quoted(label)} in the context")
    prompt = BoxesPrompt(context, context.labels.index(label), label, cluster)
    if answer is not None and answer != prompt.answer:
        raise ValueError(f"the answer is given as {quoted(answer)}, but box {label} has {quoted(prompt.answer)}")
    return prompt


@dataclass(frozen=True)
class BoxesFile(Checked):
    """The prompts of a jsonl file, in its order.

    Attributes:
        path: The file.
        count: How many of its first lines to take; 0 takes all.
        seed: Seed of the counterfactuals.
        compat: See `Boxes.compat`.
    """

    path: str
    count: int = limited(0, least=0)
    seed: int = 0
    compat: str = "default"
    place: ClassVar[str] = "task"
    name: ClassVar[str] = "boxes_file"
    roles: ClassVar[tuple[str, ...]] = ROLES

    def __post_init__(self) -> None:
        """Refuse a negative count and an unknown compatibility mode."""
        super().__post_init__()
        check_compat(self.compat)

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings and the content of the file, not its place."""
        digest = sha256(self._content).hexdigest()
        return {"task": self.name, "content": digest, "count": self.count, "seed": self.seed} | {"compat": self.compat}

    def prompts(self) -> list[BoxesPrompt]:
        """The prompts; those with one context form a cluster, wherever in the file they are.

        Raises:
            UserError: Naming the line that does not parse, or that asks what another one asks.
        """
        contexts: dict[BoxesContext, int] = {}
        lines: dict[BoxesPrompt, int] = {}
        for number, line in enumerate(self._content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if self.count and len(lines) == self.count:
                break
            if not line.strip():
                continue
            prompt = self._parse(number, line.removesuffix(b"\r"))
            prompt = replace(prompt, cluster=contexts.setdefault(prompt.context, len(contexts)))
            if prompt in lines:
                problem = f"asks what line {lines[prompt]} asks, about the same context"
                raise UserError(prompt.origin, problem, fix="remove one of them")
            lines[prompt] = number
        if len(lines) < max(1, self.count):
            raise UserError(self.path, f"has {len(lines)} prompts, {max(1, self.count)} are asked for")
        return list(lines)

    def pairs(self) -> list[Pair]:
        """The prompts with path-patching counterfactuals, made of the file's own objects where it has enough."""
        prompts = self.prompts()
        most = max(len(prompt.context.boxes) for prompt in prompts)
        own = sorted({box.object for prompt in prompts for box in prompt.context.boxes})
        objects = own if len(own) >= 2 * most else OBJECTS
        return counterfactual_pairs(prompts, self.seed, self.compat, objects)

    def backgrounds(self, count: int) -> list[BoxesPrompt]:
        """Prompts with random objects of the file, random letters and a random letter in the question.

        They have as many boxes as the file's first prompt.
        """
        prompts = self.prompts()
        boxes = len(prompts[0].context.boxes)
        objects = sorted({box.object for prompt in prompts for box in prompt.context.boxes})
        random = Random(f"background/{self.seed}")
        drawn = []
        for number in range(count):
            pairs = zip(random.sample(objects, boxes), random.sample(LABELS, boxes), strict=True)
            context = BoxesContext(tuple(Box(word, letter) for word, letter in pairs))
            drawn.append(background(random, context, number))
        return drawn

    def _parse(self, number: int, line: bytes) -> BoxesPrompt:
        place = f"{self.path}, line {number}"
        fix = f'a line looks like {{"sentence": {_FORM}}}'
        if len(line) > _LONGEST_LINE:
            raise UserError(place, f"has {len(line):,} bytes, more than {_LONGEST_LINE:,}", fix=fix)
        if b"\r" in line:
            raise UserError(place, "has a carriage return within", fix="end lines with a line feed")
        try:
            prompt = parse_sentence(take(parse_object(line.decode()), "sentence", str))
        except UnicodeDecodeError as error:
            raise UserError(place, f"is not text in UTF-8 ({error.reason})") from error
        except ValueError as error:
            raise UserError(place, str(error), fix=fix) from error
        return replace(prompt, origin=place)

    @cached_property
    def _content(self) -> bytes:
        """The file, read once: what is recorded of it is what was run."""
        return read_bytes(self.path, "task.path")
