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
import compileall
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("entitrack/methods", "entitrack/record", "entitrack/core")
"""Where places are drawn unless told otherwise."""
TESTS = {
    "entitrack/methods": ["tests/methods", "tests/core", "tests/record", "tests/cli"],
    "entitrack/record": ["tests/record", "tests/core", "tests/test_run.py", "tests/disk",
                         "tests/hostile/test_records.py"],
    "entitrack/core": ["tests/core", "tests/record", "tests/cli", "tests/methods", "tests/disk", "tests/test_study.py",
                       "tests/hostile/test_files.py", "tests/hostile/test_records.py", "tests/hostile/test_words.py"],
    "entitrack/tasks": ["tests/tasks", "tests/core", "tests/cli", "tests/methods", "tests/test_properties.py"],
    "entitrack/cli": ["tests/cli", "tests/test_run.py", "tests/hostile/test_command_line.py"],
    "entitrack/study.py": ["tests/test_study.py", "tests/test_first_steps.py"],
}  # fmt: skip
"""Room -> tests that are about it."""
LIBRARIES = ("beartype", "anyio.pytest_plugin", "hypothesis", "pandas", "matplotlib.figure", "hydra", "nnsight")
"""Imported once for all tests; nnsight after what does not bear what it does to `object`."""
LOOKS = {
    "strict", "width", "height", "fontsize", "alpha", "linewidth", "markersize", "capsize", "shrink", "dpi", "rotation",
    "s", "zorder", "marker", "style", "labelsize", "pad", "ncols", "width_ratios", "figsize", "textcoords", "color",
    "widths", "shape", "margin", "flush",
}  # fmt: skip
"""Names, of keywords and variables, whose values are taste, or assert what holds anyway."""
PLAIN_CALLS = {"annotate", "text", "warn", "field", "TypeVar", "suppress"}
SECONDS = 600
"""Of a processor, for the tests of one mutation: one that is busy with other things takes longer and fails nothing."""
PATIENCE = 6
"""Times that long is waited for tests that wait themselves."""

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
        """Bodies and defaults: annotations do not run."""
        for expression in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(expression)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Bodies alone: that a dataclass is frozen changes no number."""
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value alone."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Not the sizes that figures are given by a name."""
        if not all(getattr(target, "id", "") in LOOKS for target in node.targets):
            self.generic_visit(node)

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


@dataclass(frozen=True)
class Candidate:
    """A place, and one way to break it."""

    path: Path
    tree: ast.Module
    node: ast.AST
    other: ast.AST

    def mutation(self) -> Mutation:
        """The file with this place broken."""
        before, after = ast.unparse(self.node), ast.unparse(self.other)
        source = ast.unparse(_replaced(self.tree, self.node, self.other))
        return Mutation(str(self.path.relative_to(ROOT)), getattr(self.node, "lineno", 0), before, after, source)


def candidates(path: Path) -> list[Candidate]:
    """All that could be broken in one file."""
    tree = ast.parse(path.read_text())
    places = Places()
    places.visit(tree)
    return [Candidate(path, tree, node, other) for node in places.nodes for other in broken(node)]


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


def draw(count: int, seed: int, rooms: Sequence[str]) -> list[Mutation]:
    """Mutations to try, evenly over files, in an order of chance: few are not those of the first room alone."""
    paths = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py")) or [ROOT / room]]
    by_file = {path: candidates(path) for path in paths}
    for path, places in by_file.items():
        Random(f"{seed} {path.relative_to(ROOT)}").shuffle(places)  # so that no file's draw depends on another file
    Random(seed).shuffle(paths)
    drawn: list[Candidate] = []
    while len(drawn) < count and any(by_file.values()):
        for places in (by_file[path] for path in paths):
            if places and len(drawn) < count:
                drawn.append(places.pop())
    return [candidate.mutation() for candidate in drawn]


def tests_for(file: str) -> list[str]:
    """The tests that are about a file, those that are most about it first: one failure ends them all."""
    place = Path(file)
    room = next(room for room in TESTS if place.is_relative_to(room))
    first = ["tests/cli"] * ("settings" in place.stem or place.stem in ("stages", "names"))
    subject = Path(place.parts[2]).stem if room == "entitrack/methods" else place.stem
    folder = ROOT / "tests" / Path(room).stem
    own = sorted(str(path.relative_to(ROOT)) for path in folder.glob(f"test_{subject}*.py"))
    of_one_method = room == "entitrack/methods" and len(place.parts) > 3
    others = [test for test in TESTS[room] if test != "tests/methods" or not of_one_method]
    return list(dict.fromkeys(first + own + others))


def fails(tree: Path, tests: list[str], unbroken: bool = False) -> bool:
    """Whether tests fail in a tree, or do not end. They run in a fork: what they import is imported once for all."""
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        run_tests(tree, tests, unbroken)
    ending = time.monotonic() + PATIENCE * SECONDS
    while time.monotonic() < ending:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def run_tests(tree: Path, tests: list[str], unbroken: bool) -> NoReturn:
    """Run tests in a tree, as the whole of this process; what fails is shown where nothing should."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in () if unbroken else range(3):
            os.dup2(nothing, stream)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = sys.path[0] = str(tree)
        # What is written of a mutant would be read where it is no longer there.
        os.environ["PYTHONDONTWRITEBYTECODE"], sys.dont_write_bytecode = "1", True
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        code = int(
            pytest.main(
                ["-x", "-q", "-m", "", "-n", "0", "--no-header", "-W", "ignore", "-p", "no:cacheprovider", *tests]
            )
        )
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def import_libraries() -> None:
    """Import what the tests of every mutation need, and nothing of the package."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    os.environ.setdefault("ENTITRACK_GOLDEN", str(ROOT.parent / "shared" / "golden"))
    for name in LIBRARIES:
        import_module(name)


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
    tests = sorted({test for mutation in mutations for test in tests_for(mutation.file)})
    if fails(tree, tests, unbroken=True):
        raise SystemExit(f"tests fail before anything is broken: {' '.join(tests)}")


def copy_tree(tree: Path) -> None:
    """Copy what the tests need."""
    for name in ("entitrack", "conf", "tests", "jobs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    compileall.compile_dir(tree, quiet=1)


def main() -> None:
    """Break things, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="mutations to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which are drawn (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=ROOMS, help="rooms or files (default: %(default)s)")
    parser.add_argument("--least", type=float, default=0.95, help="least share to be caught (default: %(default)s)")
    options = parser.parse_args()
    import_libraries()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copy_tree(tree)
        outcomes = []
        mutations = draw(options.count, options.seed, options.only)
        check_unbroken(tree, mutations)
        for mutation in mutations:
            outcomes.append(caught(mutation, tree))
            verdict = "caught  " if outcomes[-1] else "SURVIVED"
            print(f"{verdict} {mutation.file}:{mutation.line}: {mutation.before} -> {mutation.after}", flush=True)
    share = sum(outcomes) / max(1, len(outcomes))
    print(f"seed {options.seed}: {sum(outcomes)} of {len(outcomes)} mutations caught ({share:.1%})")
    raise SystemExit(share < options.least)


if __name__ == "__main__":
    main()
