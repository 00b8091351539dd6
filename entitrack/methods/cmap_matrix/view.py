"""All pairs as a table, and as a map of what each gains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.drawing import Drawing, HeatMap, Names, even_scale, nested, sizes_of
from entitrack.core.result import Result
from entitrack.core.statistics.controls import rank_p
from entitrack.core.table import Cell, Table, as_text
from entitrack.methods.cmap_matrix.settings import CIRCUIT

_NOTES = (
    "gain: over the recipient as it is; of the gap: of what the donor has over it, empty where that may be nothing",
    "into itself: the null control, which must gain exactly 0; its accuracy is the member's own",
    "95 % intervals over contexts, paired for differences",
)


def tables(result: Result) -> Sequence[Table]:
    """A row a pair."""
    correct, facts = result["correct"], result.facts
    refused = {(donor, recipient): reason for donor, recipient, reason in facts["obstacles"]}
    beside = "control.own" in result.measurements
    rows: list[tuple[Cell, ...]] = []
    for donor in correct.names("donor"):
        for recipient in correct.names("recipient"):
            label = f"{donor} -> {'itself' if donor == recipient else recipient}"
            cells = [None] * (6 if beside else 3) if (donor, recipient) in refused else _row(result, donor, recipient)
            rows.append((label, *cells, *([refused.get((donor, recipient), "")] if refused else [])))
    columns = ["donor -> recipient", "accuracy [95 %]", "gain [95 %]", "of the gap"]
    columns += ["random heads", "p", "all heads"] if beside else []
    title = f"CMAP between all pairs, z of the circuit's {facts['heads']} heads, n {correct.size('prompt')}"
    return (Table(title, (*columns, *(["refused"] if refused else [])), tuple(rows)),)


def _row(result: Result, donor: str, recipient: str) -> list[Cell]:
    """What a recipient answers with a donor's heads, and what random ones and all do."""
    correct, pair = result["correct"], {"donor": donor, "recipient": recipient}
    own, moved = {"what": "recipient", **pair}, {"what": CIRCUIT, **pair}
    gap, gain = correct.difference({"what": "donor", **pair}, own), correct.difference(moved, own)
    share = gain.value / gap.value if gap.low > 0 or gap.high < 0 else None
    row: list[Cell] = [correct.estimate(**moved), gain, share]
    if "control.own" not in result.measurements:
        return row
    means = result["control.correct"].means(**pair)  # type: ignore[arg-type]
    circuit, every = result["control.own"].means(**pair).tolist()  # type: ignore[arg-type]
    p = rank_p(circuit, means.numpy(), -1 if gap.value < 0 else 1)
    return [*row, float(means.quantile(0.5)), p, every]


def headline(result: Result) -> str:
    """The pair that gains most."""
    correct, refused = result["correct"], [(donor, into) for donor, into, _ in result.facts["obstacles"]]
    gained = {}
    for pair in product(correct.names("donor"), correct.names("recipient")):
        where = dict(zip(("donor", "recipient"), pair, strict=True))
        if pair not in refused:
            gained[pair] = correct.difference({"what": CIRCUIT, **where}, {"what": "recipient", **where})
    if not gained:
        return "no pair can be moved"
    most = max(gained, key=lambda pair: gained[pair].value)
    return f"{most[0]} -> {most[1]} gains most, {gained[most]}"


def notes(result: Result) -> Sequence[str]:
    """How to read it."""
    if "control.own" not in result.measurements:
        return _NOTES
    shared = float(result["control.shared"].values.double().mean())
    draws, count = result["control.correct"].size("draw"), result["control.own"].size("prompt")
    beside = (
        f"random heads: the median of {draws} different random sets, n {count}: as many heads at the same roles,"
        f" none of the circuit's while there are others; {shared:.1f} of {result.facts['heads']} are its own on"
        " average",
        "p: share of random sets, counting the circuit, that move the recipient as far towards the donor",
        f"all heads: all at the circuit's roles, the most that heads there can do, n {count}",
    )
    return (*_NOTES, *beside)


def gains(result: Result) -> Float[Tensor, "donor recipient"]:
    """What every pair gains; not a number where it is refused."""
    means = result["correct"].means()
    places = [result["correct"].names("what").index(name) for name in (CIRCUIT, "recipient")]
    gained = means[places[0]] - means[places[1]]
    return torch.where(result["tried"].values, gained, torch.nan)


def claim(result: Result) -> str:
    """The pair that gains most, and the null control."""
    gained, names = gains(result), result["correct"].names("donor")
    pairs = [(donor, recipient) for donor in range(len(names)) for recipient in range(len(names)) if donor != recipient]
    tried = [pair for pair in pairs if math.isfinite(float(gained[pair]))]
    if not tried:
        return "No pair of different members was tried."
    donor, recipient = (names[place] for place in max(tried, key=lambda pair: float(gained[pair])))
    accuracy, gain, _, *beside = _row(result, donor, recipient)
    control = f" (random heads: {as_text(beside[0])}, p {as_text(beside[1])})" if beside else ""
    null = float(gained.diagonal().abs().nan_to_num().max())
    return (
        f"Of all pairs, {recipient} gains most, from {donor}: {gain}, to {accuracy}{control}. A member into itself"
        f" changes at most {null:g}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "The best of many pairs is named; its interval does not cover the choice.",
        "One circuit is used for all pairs: a member may do the task with other heads.",
    )


def drawing(result: Result) -> Drawing:
    """A map of gains, donors from above, recipients from the left; nothing where a pair is refused."""
    correct, gained = result["correct"], gains(result)
    names = correct.names("donor")
    texts = tuple(tuple("" if math.isnan(value) else f"{value:+.2f}" for value in row) for row in gained.tolist())
    panel = HeatMap("", Names("donor", names), Names("recipient", names), nested(gained), texts)
    scale = even_scale("gain in accuracy over the recipient", gained.flatten().tolist(), "low")
    refused = ("Hatched: a pair that is refused.",) if result.facts["obstacles"] else ()
    title = f"CMAP between all pairs, z of the circuit's {result.facts['heads']} heads"
    notes = ("On the diagonal a member into itself, which must gain exactly 0.", *refused)
    return Drawing(title, (panel,), scale, notes, sizes_of(correct.prompts))
