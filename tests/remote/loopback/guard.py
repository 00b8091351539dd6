"""What NDIF forbids in a block, forbidden here too."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from nnsight.intervention.serialization import CustomCloudUnpickler

ALLOWED = {"torch", "numpy", "math", "einops", "collections", "typing", "time", "operator", "enum", "sympy"}
MACHINERY = {"nnsight", "cloudpickle", "builtins", "types", "copyreg", "_operator"}
FORBIDDEN_NAMES = {"open", "exec", "eval", "compile", "locals", "__import__", "input"}


class Guarded(CustomCloudUnpickler):
    """Nnsight's unpickler, which takes nothing from other modules and looks at the source of functions."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] not in ALLOWED | MACHINERY:
            raise ImportError(f"{module}.{name} is not allowed on this server")
        found = super().find_class(module, name)
        return {"_load_function": checked, "subimport": allowed}.get(name, _as_it_is)(found)


def _as_it_is(found: Any) -> Any:
    return found


def allowed(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """Cloudpickle's import of modules that a function names, which takes no others."""

    def take(name: str) -> Any:
        if name.partition(".")[0] not in ALLOWED | MACHINERY:
            raise ImportError(f"{name} is not allowed on this server")
        return load(name)

    return take


def checked(load: Callable[..., Any]) -> Callable[..., Any]:
    """Nnsight's rebuilding of functions, which refuses imports and names that reach outside."""

    def rebuild(source: str, *rest: Any) -> Any:
        wrong = forbidden(source)
        if wrong:
            raise ImportError(f"{', '.join(wrong)} is not allowed on this server")
        return load(source, *rest)

    return rebuild


def forbidden(source: str) -> list[str]:
    """Modules imported and names used in a piece of source that NDIF would refuse."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] not in ALLOWED]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "."] if (node.module or "").partition(".")[0] not in ALLOWED else []
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            found.append(node.id)
    return found
