"""Can the tests fail? Breaks the program on purpose, one place at a time, and counts how often a test notices.

python -m tests.mutations --count 60 --seed 0

1. Every place in `entitrack/methods` and the rooms that show results where an operator, a comparison, a constant, a
   condition, an index or the order of two arguments could be wrong is a candidate.
2. Some are drawn, evenly over files. Each is applied to a copy of the tree, in which the tests of that file run.
3. A mutation is caught if a test fails (or does not end). Survivors are listed; the exit code says whether the share
   that is caught is at least `--least`.

What changes nothing but looks (sizes, fonts, shades of figures) is no candidate.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
ROOMS = ("entitrack/methods", "entitrack/record", "entitrack/core")
LOOKS = {
    "strict", "width", "height", "fontsize", "alpha", "linewidth", "markersize", "capsize", "shrink", "dpi", "rotation",
    "s", "zorder", "marker", "style", "labelsize", "pad", "ncols", "width_ratios", "figsize", "textcoords", "color",
}  # fmt: skip
"""Keywords whose values are taste, or assert what holds anyway."""
PLAIN_CALLS = {"new_figure", "blank", "annotate", "text", "Field", "warn", "field", "TypeVar"}
SECONDS = 240

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutation:
    """One broken place.

    Attributes:
        file: The file, relative to the tree.
        line: The line.
        before: The expression as it is.
        after: The expression as it is broken.
        source: The whole file with it.
    """

    file: str
    line: int
    before: str
    after: str
    source: str


def broken(node: ast.AST) -> Iterator[ast.AST]:
    """The ways in which an expression may be broken."""
    match node:
        case ast.BinOp(op=op) if type(op) in SWAPPED:
            yield ast.BinOp(node.left, SWAPPED[type(op)](), node.right)  # type: ignore[arg-type]
        case ast.Compare(ops=[op]) if type(op) in SWAPPED:
            yield ast.Compare(node.left, [SWAPPED[type(op)]()], node.comparators)  # type: ignore[list-item]
        case ast.BoolOp(op=op):
            yield ast.BoolOp(SWAPPED[type(op)](), node.values)  # type: ignore[arg-type]
        case ast.UnaryOp(op=ast.Not()) | ast.UnaryOp(op=ast.USub()):
            yield node.operand
        case ast.IfExp():
            yield ast.IfExp(node.test, node.orelse, node.body)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as number):
            yield ast.Constant(number + 1)
        case ast.Call(args=[first, second, *rest]) if ast.dump(first) != ast.dump(second):
            if not any(isinstance(argument, ast.Starred) for argument in (first, second)):
                yield ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Slice(lower=lower, upper=upper) if (lower is None) != (upper is None):
            yield ast.Slice(upper, lower, node.step)


class Places(ast.NodeVisitor):
    """Collects the expressions that may be broken, leaving out annotations, docstrings, messages and looks."""

    def __init__(self) -> None:
        self.nodes: list[ast.AST] = []

    def generic_visit(self, node: ast.AST) -> None:
        """Take the expression, and look into it."""
        if isinstance(node, ast.expr | ast.Slice):
            self.nodes.append(node)
        super().generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Bodies alone: annotations and decorators do not run."""
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value alone."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        """Without what is taste in calls that draw."""
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in PLAIN_CALLS:
            return
        self.nodes.append(node)
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in LOOKS:
                self.visit(keyword.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts are compared where they matter; formats inside of them are looks."""

    def visit_If(self, node: ast.If) -> None:
        """Not what is only there for type checkers."""
        if getattr(node.test, "id", "") != "TYPE_CHECKING":
            self.generic_visit(node)


def mutations_of(path: Path) -> Iterator[Mutation]:
    """All mutations of one file."""
    tree = ast.parse(path.read_text())
    places = Places()
    places.visit(tree)
    for node in places.nodes:
        for other in broken(node):
            changed = _replaced(tree, node, other)
            before, after = ast.unparse(node), ast.unparse(other)
            line = getattr(node, "lineno", 0)
            yield Mutation(str(path.relative_to(ROOT)), line, before, after, ast.unparse(changed))


def _replaced(tree: ast.Module, node: ast.AST, other: ast.AST) -> ast.Module:
    """A copy of a tree with one node replaced."""

    class Swap(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> ast.AST:
            if visited is node:
                return other
            return super().generic_visit(visited)

    marked = {id(one): one for one in ast.walk(tree)}
    memo = {id(node): node}
    copied = deepcopy(tree, memo)
    del marked
    mutant = ast.fix_missing_locations(Swap().visit(copied))
    assert isinstance(mutant, ast.Module)
    return mutant


def draw(count: int, seed: int, only: str) -> list[Mutation]:
    """Mutations to try, evenly over files."""
    random = Random(seed)
    by_file = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            found = list(mutations_of(path)) if only in str(path) else []
            random.shuffle(found)
            by_file.append(found)
    drawn: list[Mutation] = []
    while len(drawn) < count and any(by_file):
        for found in by_file:
            if found and len(drawn) < count:
                drawn.append(found.pop())
    return drawn


def tests_for(file: str) -> list[str]:
    """The tests that are about a file, as those who live in the code would run them."""
    parts = Path(file).parts
    own = ROOT / "tests" / "methods" / f"test_{parts[2]}.py"
    always = [folder for folder in ("tests/core", "tests/record") if (ROOT / folder).is_dir()]
    if parts[1] == "methods" and own.is_file():
        return [str(own.relative_to(ROOT)), *always]
    return ["tests/methods", *always] if parts[1] == "methods" else [*always, "tests/test_run.py", "tests/methods"]


def fails(tree: Path, tests: list[str]) -> bool:
    """Whether tests fail in a tree, or do not end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("ENTITRACK_GOLDEN", str(ROOT.parent / "shared" / "golden"))
    try:
        return bool(subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS).returncode)
    except subprocess.TimeoutExpired:
        return True


def caught(mutation: Mutation, tree: Path) -> bool:
    """Whether a test notices the mutation."""
    target = tree / mutation.file
    original = target.read_text()
    target.write_text(mutation.source)
    try:
        return fails(tree, tests_for(mutation.file))
    finally:
        target.write_text(original)


def check_unbroken(tree: Path, mutations: list[Mutation]) -> None:
    """Stop if a test that is to notice something fails anyway."""
    for tests in {tuple(tests_for(mutation.file)) for mutation in mutations}:
        if fails(tree, list(tests)):
            raise SystemExit(f"tests fail before anything is broken: {' '.join(tests)}")


def main() -> None:
    """Break things, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="mutations to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which are drawn (default: %(default)s)")
    parser.add_argument("--only", default="", help="only in files whose path has this in it")
    parser.add_argument("--least", type=float, default=0.95, help="least share to be caught (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        for name in ("entitrack", "conf", "tests", "jobs"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        outcomes = []
        mutations = draw(options.count, options.seed, options.only)
        check_unbroken(tree, mutations)
        for mutation in mutations:
            outcomes.append(caught(mutation, tree))
            verdict = "caught  " if outcomes[-1] else "SURVIVED"
            print(f"{verdict} {mutation.file}:{mutation.line}: {mutation.before} -> {mutation.after}", flush=True)
    share = sum(outcomes) / max(1, len(outcomes))
    print(f"{sum(outcomes)} of {len(outcomes)} mutations caught ({share:.1%})")
    raise SystemExit(share < options.least)


if __name__ == "__main__":
    main()
