"""The card of the family: one JSON for programs, one README made from it for people."""

from collections.abc import Iterable, Mapping
from typing import Any

NOTE = """\
These are toys. They were made so that every method of this project runs on trained weights anywhere, with no
download. Their base was trained so that the paper's three token roles (`last`, `query_label`,
`prev_query_label`) suffice: in half of the batches of its last stages, z outside these roles was replaced
by {fills}; the donors' arithmetic has such batches too. They show methods at work, not how
language models come to track entities. What the base lacks is reach: it was trained on shorter prompts than
seven boxes make, and arithmetic with up to 16 variables makes long ones. So what the donors gain may say more
about length than about mathematics."""
FILL_WORDS = {"mean": "its mean over the batch", "zero": "nothing", "resample": "another prompt's"}


def build_card(
    name: str, records: Mapping[str, Mapping[str, Any]], experiments: Iterable[str], seed: int, threads: int
) -> dict[str, Any]:
    """Put the models' records together.

    Args:
        name: of the family.
        records: what was done and measured, by model.
        experiments: names of those models that are measured but not shipped.
        seed: of the whole training.
        threads: torch threads; the weights depend on their number.
    """
    unshipped = set(experiments)
    return {
        "family": name,
        "seed": seed,
        "threads": threads,
        "total_seconds": round(sum(record["seconds"] for record in records.values()), 1),
        "models": {name: record for name, record in records.items() if name not in unshipped},
        "experiments": {name: record for name, record in records.items() if name in unshipped},
    }


def render_card(card: Mapping[str, Any]) -> str:
    """Return the README that says the same as the card."""
    everything = {**card["models"], **card["experiments"]}
    parts = [
        f"# The embedded family `{card['family']}`",
        "Written by `jobs/train_zoo.py` from `card.json`; not to be edited by hand.",
        NOTE.format(fills=_fills(everything["llama"]["recipe"]["fills"])),
        "## Boxes",
        "Accuracy in per cent on held-out contexts by number of boxes, with 95 % Wilson intervals.",
        _accuracy_table(everything, "accuracy", "boxes"),
        "## What the donors add",
        "Accuracy minus the base's on the same prompts with the most boxes, in points, with 95 % intervals "
        "from the spread between contexts; the same for the base with every head's z at `last` taken from "
        "the donor; and a model's accuracy when only the three roles keep their own z, against its whole, by what "
        "stands for z elsewhere.",
        _comparison_table(everything),
        "## Arithmetic",
        "Accuracy in per cent on a sum or difference of two variables, by number of variables.",
        _accuracy_table(everything, "arithmetic", "variables"),
        "## Training",
        _training(card),
    ]
    return "\n\n".join(parts) + "\n"


def _accuracy_table(models: Mapping[str, Any], key: str, unit: str) -> str:
    columns = list(next(iter(models.values()))[key])
    rows = [["model", *(f"{column} {unit}" for column in columns)]]
    for name, record in models.items():
        rows.append([name, *(_share(record[key][column]) for column in columns)])
    rows.append(["n", *(str(next(iter(models.values()))[key][column]["n"]) for column in columns)])
    return _table(rows)


def _comparison_table(models: Mapping[str, Any]) -> str:
    fills = list(next(iter(models.values()))["role_sufficiency"])
    rows = [
        ["model", "gain", "gain of base with donor's z at last", *(f"roles only / whole, {fill}" for fill in fills)]
    ]
    for name, record in models.items():
        gains = [_gain(record[key]) if key in record else "" for key in ("gain", "transplanted_last_gain")]
        by_fill = [record["role_sufficiency"][fill] for fill in fills]
        shares = [f"{one['roles_only']:.3f} / {one['whole']:.3f} = {one['ratio']:.2f}" for one in by_fill]
        rows.append([name, *gains, *shares])
    return _table(rows)


def _training(card: Mapping[str, Any]) -> str:
    lines = [
        f"Seed {card['seed']}, {card['threads']} thread(s), {card['total_seconds'] / 60:.1f} minutes in all "
        "with measurements. No optimiser state is kept. Held-out contexts (`held_out` in "
        "`entitrack/tasks/boxes/contexts.py`) never occur in training, in any form.",
        _live(card["models"]["llama"]),
    ]
    for name, record in {**card["models"], **card["experiments"]}.items():
        steps = ", ".join(f"{stage} {count}" for stage, count in record["steps"].items())
        numbers = ", ".join(f"{key} {value}" for key, value in record["recipe"].items())
        shipped = "" if name in card["models"] else " (not shipped)"
        lines.append(
            f"- **{name}**{shipped}: {record['about']} Steps: {steps}; {record['train_seconds']} s. Numbers: {numbers}."
        )
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def _fills(names: Iterable[str]) -> str:
    """Return what stood for z outside the roles in training, in words."""
    *most, final = (FILL_WORDS[name] for name in names)
    return f"{', '.join(most)} or {final}, drawn anew every step" if most else final


def _live(record: Mapping[str, Any]) -> str:
    """Return which heads of the base are live, in words."""
    names = ", ".join(f"{layer}.{head}" for layer, head in record["live_heads"])
    total = record["recipe"]["layers"] * record["recipe"]["heads"]
    return f"Of the base's {total} heads {len(record['live_heads'])} are live: {names}."


def _share(share: Mapping[str, float]) -> str:
    return f"{100 * share['accuracy']:.1f} ({100 * share['low']:.1f}–{100 * share['high']:.1f})"


def _gain(gain: Mapping[str, float]) -> str:
    return f"{100 * gain['gain']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def _table(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])
