"""Run the commands that the pages' figures come from, and see whether they print what stands there.

python jobs/check_docs.py go                                  # all pages; real models' packages must be installed
python jobs/check_docs.py go --without smollm2 --without gemma3
python jobs/check_docs.py go --page entitrack/tasks/README.md

A block that begins with `$ COMMAND` has what the command printed below it: every line of it must be printed, in this
order. A comment `<!-- $ COMMAND -->` below a paragraph says where its decimal numbers come from: each must be a
number that one of the paragraph's commands printed, rounded as it is there. Benchmarks are no such figures.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```\n(\$ .*?)^```$", re.DOTALL | re.MULTILINE)
_PARAGRAPH = re.compile(r"((?:^(?!<!-- |\s*$|```).+\n)+)\n?((?:^<!-- \$ .+ -->\n)+)", re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])-?\d*\.\d+(?![\w.]*\w)")


@dataclass(frozen=True)
class Claim:
    """What a page says that commands print.

    Attributes:
        page: The page, from the project's folder.
        line: Where it says so, from 1.
        shown: The commands, in order, and the lines that each prints, in order.
        numbers: Numbers that one of them prints.
    """

    page: str
    line: int
    shown: tuple[tuple[str, tuple[str, ...]], ...]
    numbers: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """What is run."""
        return tuple(command for command, _ in self.shown)

    def wrong(self, printed: Mapping[str, str]) -> Iterator[str]:
        """What is not as it says.

        Args:
            printed: What each command printed.
        """
        for command, lines in self.shown:
            rest = iter([_bare(line) for line in printed[command].splitlines()])
            missing = next((line for line in lines if _bare(line) not in rest), None)
            if missing is not None:
                yield f"{command}\n  does not print, or not in this order: {missing}\n{printed[command]}"
        told = [float(found) for command in self.commands for found in _NUMBER.findall(printed[command])]
        for number in self.numbers:
            digits = len(number.partition(".")[2])
            if not any(abs(value - float(number)) <= 0.5001 * 10**-digits for value in told):
                yield f"no number that is printed is {number}"


def _bare(line: str) -> str:
    return " ".join(line.split())


def claims(page: Path) -> list[Claim]:
    """All that a page claims, in the order in which it stands there."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    found = []
    for block in _BLOCK.finditer(text):
        shown: list[tuple[str, tuple[str, ...]]] = []
        for line in block[1].replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                shown.append((_bare(line[2:]), ()))
            elif line.strip():
                command, lines = shown.pop()
                shown.append((command, (*lines, line)))
        found.append(Claim(name, text.count("\n", 0, block.start()) + 1, tuple(shown)))
    for paragraph in _PARAGRAPH.finditer(text):
        numbers = _NUMBER.findall(re.sub(r"`[^`]*`", " ", paragraph[1]))
        silent = tuple((command, ()) for command in re.findall(r"<!-- \$ (.+) -->", paragraph[2]))
        found.append(Claim(name, text.count("\n", 0, paragraph.start()) + 1, silent, tuple(numbers)))
    return sorted(found, key=lambda claim: claim.line)


def pages() -> list[Path]:
    """The README and the pages of the rooms."""
    return [ROOT / "README.md", *sorted((ROOT / "entitrack").rglob("README.md"))]


def run(command: str, folder: Path) -> str:
    """What a command prints, errors too, run where `entitrack` and `python` are those of this process."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    if not (folder / "jobs").exists():
        (folder / "jobs").symlink_to(ROOT / "jobs")
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def checked(asked: Sequence[Claim], folder: Path, printed: dict[str, str]) -> Iterator[tuple[Claim, list[str]]]:
    """Every claim with what is wrong about it.

    Args:
        asked: The claims; a command that several have is run once.
        folder: Where the commands run; they share its store.
        printed: What commands have printed before, added to.
    """
    for claim in asked:
        for command in claim.commands:
            if command not in printed:
                printed[command] = run(command, folder)
        yield claim, list(claim.wrong(printed))


def main() -> int:
    """Do what the command line says; 1 if a page is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("go", choices=["go"], help="start: on all pages it takes an hour or more")
    parser.add_argument("--page", action="append", help="a page, from the project's folder; may be given again")
    parser.add_argument("--without", action="append", default=[], help="leave out claims whose commands have this word")
    given = parser.parse_args()
    asked = [
        claim
        for page in ([ROOT / name for name in given.page] if given.page else pages())
        for claim in claims(page)
        if not any(word in command for word in given.without for command in claim.commands)
    ]
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for claim, wrong in checked(asked, Path(folder), {}):
            failures += bool(wrong)
            print(f"{claim.page}:{claim.line}: {'; '.join(wrong) or 'as printed'}", flush=True)
    print(f"{len(asked) - failures} of {len(asked)} claims as printed")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
