"""Parts of a task's contexts: circuits, masks and thresholds are chosen on one, and judged on the other.

1. A stable hash of a context's text deals it to `search` or `judge`, whatever is drawn, asked or counted.
2. A method's settings say which part it runs on; what it chooses for itself, it chooses on `search`.
3. What was chosen keeps digests of its contexts, so that whoever judges it says how many are among its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["search", "judge"]
PARTS: tuple[Part, ...] = ("search", "judge")
WHOLE = "all"
"""What stands for both parts together."""

CONTEXTS = "contexts"
"""Key of `found_on` under which digests of contexts are."""


def part_of(context: str) -> Part:
    """The part that a context belongs to; about half of all belong to each."""
    return PARTS[hashlib.sha256(context.encode()).digest()[1] % 2]


@dataclass(frozen=True)
class Origin:
    """What some of a run's prompts were chosen on before.

    Attributes:
        what: What was chosen: `circuit llama`.
        contexts: On how many contexts; None where it does not say.
        shared: How many of them are among the run's own.
        total: How many contexts the run has.
    """

    what: str
    contexts: int | None
    shared: int
    total: int

    @property
    def note(self) -> str:
        """The same in words."""
        if self.contexts is None:
            return f"{self.what} does not say which prompts it was found on"
        found = f"{self.what} was found on {self.contexts} contexts"
        return f"{found}; of the {self.total} contexts here {self.shared} are among them"


def context_digests(texts: Sequence[str], clusters: Sequence[int]) -> list[str]:
    """A digest for every context: of its first prompt, which is there however many questions are asked.

    Args:
        texts: The prompts.
        clusters: Number of each one's context.
    """
    first: dict[int, str] = {}
    for text, cluster in zip(texts, clusters, strict=True):
        first.setdefault(cluster, text)
    return [_digest(text) for text in first.values()]


def origin_of_choice(what: str, found_on: Mapping[str, Any], texts: Sequence[str], clusters: Sequence[int]) -> Origin:
    """How far prompts overlap with those that something was found on.

    Args:
        what: What was found.
        found_on: What it was found on.
        texts: The prompts that it is judged on.
        clusters: Number of each one's context.
    """
    known, total = found_on.get(CONTEXTS), len(set(clusters))
    if not isinstance(known, Sequence) or isinstance(known, str):
        return Origin(what, None, 0, total)
    digests = set(known)
    shared = {cluster for text, cluster in zip(texts, clusters, strict=True) if _digest(text) in digests}
    return Origin(what, len(known), len(shared), total)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
