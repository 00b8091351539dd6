"""Box prompts from a file in the paper's format: one `{"sentence": "..."}` a line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import ClassVar

from entitrack.errors import UserError
from entitrack.limits import Checked, limited
from entitrack.tasks.boxes import (
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

_SEGMENT = re.compile(r"^[Tt]he (?P<object>[\w-]+) is in Box (?P<label>[A-Za-z]+)$")
_QUESTION = re.compile(r"^Box (?P<label>[A-Za-z]+) contains the(?: (?P<answer>[\w-]+))?$")
_FORM = '"The book is in Box Q, the key is in Box X. Box Q contains the book"'


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
        match = _SEGMENT.match(segment)
        if not match:
            raise ValueError(f"segment {segment!r} is not 'the OBJECT is in Box LABEL'")
        boxes.append(Box(match["object"], match["label"]))
    question = _QUESTION.match(question_text)
    if not question:
        raise ValueError(f"question {question_text!r} is not 'Box LABEL contains the'")
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
        raise ValueError(f"no box {label!r} in the context")
    prompt = BoxesPrompt(context, context.labels.index(label), label, cluster)
    if answer is not None and answer != prompt.answer:
        raise ValueError(f"the answer is given as {answer!r}, but box {label} has {prompt.answer!r}")
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
        digest = sha256(self._read()).hexdigest()
        return {"task": self.name, "content": digest, "count": self.count, "seed": self.seed} | {"compat": self.compat}

    def prompts(self) -> list[BoxesPrompt]:
        """The prompts; consecutive lines with one context form a cluster.

        Raises:
            UserError: Naming the line that does not parse.
        """
        try:
            lines = self._read().decode().splitlines()
        except UnicodeDecodeError as error:
            raise UserError("task.path", f"{self.path!r} is not text in UTF-8 ({error.reason})") from error
        prompts: list[BoxesPrompt] = []
        for number, line in enumerate(lines, start=1):
            if self.count and len(prompts) == self.count:
                break
            if line.strip():
                prompts.append(self._parse(number, line, prompts))
        if len(prompts) < max(1, self.count):
            raise UserError(self.path, f"has {len(prompts)} prompts, {max(1, self.count)} are asked for")
        return prompts

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

    def _parse(self, number: int, line: str, before: list[BoxesPrompt]) -> BoxesPrompt:
        try:
            sentence = json.loads(line)["sentence"]
            prompt = parse_sentence(sentence)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = "no key 'sentence'" if isinstance(error, KeyError) else str(error)
            fix = f'a line looks like {{"sentence": {_FORM}}}'
            raise UserError(f"{self.path}, line {number}", reason, fix=fix) from error
        if not before:
            return prompt
        same = before[-1].context == prompt.context
        cluster = before[-1].cluster + (0 if same else 1)
        return BoxesPrompt(prompt.context, prompt.query, prompt.label, cluster)

    def _read(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise UserError("task.path", f"cannot read {self.path!r} ({error.strerror})") from error
