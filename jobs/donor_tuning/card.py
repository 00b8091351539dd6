"""The card of a family's donors: one JSON for programs, one README made from it for people."""

from collections.abc import Mapping, Sequence
from typing import Any

NOTE = """\
LoRA adapters on all linear layers of the decoder, tuned by `jobs/tune_donor.py` on generated text and rounded to
float16 before anything was measured: the numbers are those of the files that are here. A `placebo` reads the
texts of `arithmetic` with answers of other texts, so that nothing can be looked up: what it gains, any tuning on such
texts gains. A `boxes` donor is a positive control."""


def render_card(card: Mapping[str, Any]) -> str:
    """The README that says the same as the card."""
    donors: Mapping[str, Any] = card["donors"]
    parts = [
        f"# Donors of `{card['family']}`",
        "Written by `jobs/tune_donor.py` from `card.json`; not to be edited by hand.",
        NOTE,
        "## Boxes",
        "Accuracy on held-out contexts, base -> donor and the gain on the same prompts, each with its 95 % interval "
        "over contexts. Among the context's objects: the right one is likelier than the others that the context names.",
        *(part for name, record in donors.items() for part in (f"### {name}", _accuracies(record["accuracy"]))),
        "## Tuning",
        "\n".join(_tuning(name, record) for name, record in donors.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _accuracies(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["phrasing", "boxes", "among", "base", "donor", "gain", "n"]
    body = [
        [
            row["phrasing"],
            str(row["boxes"]),
            row["among"],
            *(_share(row[name]) for name in ("base", "donor", "gain")),
            str(row["base"]["n"]),
        ]
        for row in rows
    ]
    return _table([head, *body])


def _tuning(name: str, record: Mapping[str, Any]) -> str:
    numbers = ", ".join(f"{key} {value}" for key, value in record["recipe"].items() if key != "about")
    own = ", ".join(f"{model} {share:.3f}" for model, share in record["own_answers"].items())
    return (
        f"- **{name}**: {record['about']} Base {record['base']}; {record['tuning_seconds']} s on "
        f"{record['threads']} thread(s), {record['bytes'] / 1e6:.1f} MB; answers of new texts of its kind: {own}. "
        f"Numbers: {numbers}."
    )


def _share(share: Mapping[str, float | None]) -> str:
    ends = [f"{end:.3f}" for end in (share["low"], share["high"]) if end is not None]
    return f"{share['value']:.3f} [{', '.join(ends) or 'too few contexts'}]"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])
