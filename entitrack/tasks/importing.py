"""Classes of one's own, named as `module:Class` and found beside the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from entitrack.core.errors import UserError, quoted, reason

_LISTED = 20
"""Names of a module that an error lists."""


def import_named(name: str, place: str) -> Any:
    """What `module:attribute` names.

    Args:
        name: The module may lie in the current folder.
        place: The config key that named it.

    Raises:
        UserError: The module cannot be imported, or has no such attribute.
    """
    module, _, attribute = name.partition(":")
    try:
        with _importable(Path.cwd()):
            loaded = import_module(module)
    except (Exception, SystemExit) as error:
        fix = "run where the module is, or put its folder on PYTHONPATH"
        raise UserError(place, f"cannot import {quoted(module)} ({reason(error)})", fix=fix) from error
    found = getattr(loaded, attribute, None)
    if found is None:
        known = [entry for entry in vars(loaded) if not entry.startswith("_")]
        more = [f"and {len(known) - _LISTED} more"] if len(known) > _LISTED else []
        raise UserError(place, f"module {quoted(module)} has no {quoted(attribute)}", [*known[:_LISTED], *more])
    return found


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
