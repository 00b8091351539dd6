"""The desiderata by name, and one's own by import path."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from entitrack.core.errors import UserError, quoted, reason
from entitrack.core.names import check_name
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
_LISTED = 20
"""Names of a module that an error lists."""
_SETS = {"paper": PAPER, "extra": EXTRA, "all": (*PAPER, *EXTRA)}


def find_desiderata(names: Sequence[str], place: str = "method.desiderata") -> list[Desideratum]:
    """Desiderata by name; `paper`, `extra` and `all` stand for several.

    Raises:
        UserError: See `find_desideratum`; or two have one name.
    """
    found: dict[str, Desideratum] = {}
    for index, name in enumerate(names):
        for rule in _SETS[name] if name in _SETS else [find_desideratum(name, f"{place}.{index}")]:
            if rule.name in found:
                raise UserError(f"{place}.{index}", f"desiderata are listed twice: {rule.name}")
            found[rule.name] = rule
    if not found:
        raise UserError(place, "no desideratum is listed", [*_SETS, *DESIDERATA])
    return list(found.values())


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
        raise UserError(place, f"there is no desideratum {quoted(name)}", [*_SETS, *DESIDERATA], fix)
    return _import(module, attribute, place)


def _import(module: str, attribute: str, place: str) -> Desideratum:
    try:
        with _importable(Path.cwd()):
            loaded = import_module(module)
    except (Exception, SystemExit) as error:
        fix = "run where the module is, or put its folder on PYTHONPATH"
        raise UserError(place, f"cannot import {quoted(module)} ({reason(error)})", fix=fix) from error
    made = getattr(loaded, attribute, None)
    if made is None:
        known = [entry for entry in vars(loaded) if not entry.startswith("_")]
        more = [f"and {len(known) - _LISTED} more"] if len(known) > _LISTED else []
        raise UserError(place, f"module {quoted(module)} has no {quoted(attribute)}", [*known[:_LISTED], *more])
    try:
        rule = made() if isinstance(made, type) else made
        name, pairs = getattr(rule, "name", None), getattr(rule, "pairs", None)
    except (Exception, SystemExit) as error:
        raise UserError(place, f"{module}:{attribute} cannot be made without arguments ({reason(error)})") from error
    if not isinstance(name, str) or not callable(pairs):
        fix = "give it a `name` and `pairs(prompts, seed, compat)`"
        raise UserError(place, f"{module}:{attribute} is no desideratum", fix=fix)
    check_name(name, f"{place}, name of {module}:{attribute}", {*_SETS, *DESIDERATA, "n"})
    return rule


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules in a folder can be imported; what they do to the path themselves stays."""
    here = str(folder)
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
