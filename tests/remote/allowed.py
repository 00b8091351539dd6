"""What code may name that travels to a server: more may be missing there, or be refused."""

from __future__ import annotations

import ast

ALLOWED = {"torch", "numpy", "math", "collections", "typing", "time", "operator", "enum"}
FORBIDDEN_NAMES = {"open", "exec", "eval", "compile", "locals", "__import__", "input"}


def forbidden(source: str) -> list[str]:
    """Modules imported and names used in a piece of source that a server need not bear."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] not in ALLOWED]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "."] if (node.module or "").partition(".")[0] not in ALLOWED else []
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            found.append(node.id)
    return found
