"""The desiderata by name, and one's own by import path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from entitrack.errors import UserError
from entitrack.tasks.desiderata.pairs import Desideratum
from entitrack.tasks.desiderata.structure import (
    AddedComma,
    AlteredAssociation,
    AlteredOrder,
    BoxesBeforeSegment,
    NeighbouringSegment,
    NoComma,
    RandomTextEnd,
    RandomTextStart,
    SegmentEnd,
    SegmentStart,
    TokensBetweenBoxAndObject,
)
from entitrack.tasks.desiderata.variables import BoxLabelValue, ObjectValue, Positional

PAPER: tuple[Desideratum, ...] = (ObjectValue(), BoxLabelValue(), Positional())
EXTRA: tuple[Desideratum, ...] = (
    RandomTextStart(),
    RandomTextEnd(),
    TokensBetweenBoxAndObject(),
    SegmentStart(),
    SegmentEnd(),
    BoxesBeforeSegment(),
    NeighbouringSegment(),
    AlteredOrder(),
    AlteredAssociation(),
    NoComma(),
    AddedComma(),
)
DESIDERATA: dict[str, Desideratum] = {rule.name: rule for rule in (*PAPER, *EXTRA)}
_SETS = {"paper": PAPER, "extra": EXTRA, "all": (*PAPER, *EXTRA)}


def find_desiderata(names: Sequence[str], place: str = "method.desiderata") -> list[Desideratum]:
    """Desiderata by name; `paper`, `extra` and `all` stand for several.

    Raises:
        UserError: See `find_desideratum`; or two have one name.
    """
    found: list[Desideratum] = []
    for name in names:
        found += _SETS[name] if name in _SETS else [find_desideratum(name, place)]
    taken = [rule.name for rule in found]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise UserError(place, f"desiderata are listed twice: {', '.join(twice)}")
    if not found:
        raise UserError(place, "no desideratum is listed", [*_SETS, *DESIDERATA])
    return found


def find_desideratum(name: str, place: str = "method.desiderata") -> Desideratum:
    """A desideratum by its name, or a class of one's own by `module:Class`.

    Raises:
        UserError: There is no such name, module or class, or the class is no desideratum.
    """
    if name in DESIDERATA:
        return DESIDERATA[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        fix = "or one's own as 'module:Class'"
        raise UserError(place, f"there is no desideratum {name!r}", [*_SETS, *DESIDERATA], fix)
    return _import(module, attribute, place)


def _import(module: str, attribute: str, place: str) -> Desideratum:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        loaded = import_module(module)
    except Exception as error:
        fix = "run where the module is, or put its folder on PYTHONPATH"
        raise UserError(place, f"cannot import {module!r} ({type(error).__name__}: {error})", fix=fix) from error
    finally:
        sys.path.remove(here)
    made = getattr(loaded, attribute, None)
    if made is None:
        known = [entry for entry in vars(loaded) if not entry.startswith("_")]
        raise UserError(place, f"module {module!r} has no {attribute!r}", known)
    try:
        rule = made() if isinstance(made, type) else made
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(place, f"{module}:{attribute} cannot be made without arguments ({reason})") from error
    if not isinstance(getattr(rule, "name", None), str) or not callable(getattr(rule, "pairs", None)):
        fix = "give it a `name` and `pairs(prompts, seed, compat)`"
        raise UserError(place, f"{module}:{attribute} is no desideratum", fix=fix)
    return rule
