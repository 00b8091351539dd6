"""The pages: what they link to is there, every command is one that the program takes, every method is run small."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from entitrack.cli.command_line import Job, composer
from entitrack.cli.config import check
from entitrack.cli.flags import parse
from entitrack.methods import method_names
from tests.record.small_runs import SETTINGS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "entitrack").rglob("README.md") if "zoo" not in path.parts),
]
ELSEWHERE = (
    "TIME",
    "path/to",
    "my_conf",
    "my_tasks",
    "boxes.jsonl",
    "owner/name",
    "mine.jsonl",
    "smollm2",
    "gemma3",
    "ndif",
)
"""What a command has that is of a reader's own, of packages that may be absent, or of a server."""


def commands(page: Path) -> Iterator[str]:
    """Commands of a page's blocks and tables, without comments."""
    text = page.read_text()
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            yield from (part.strip() for part in re.sub(r"\s+#.*", "", line).split("&&"))
    yield from (found.replace("\\|", "|") for found in re.findall(r"\| `(entitrack [^`]+)` \|$", text, re.MULTILINE))


RUNS = sorted({line for page in PAGES for line in commands(page) if line.startswith("entitrack ")})


@pytest.mark.parametrize("command", [line for line in RUNS if not any(word in line for word in ELSEWHERE)])
def test_every_command_is_one_that_the_program_takes(command: str) -> None:
    flags = parse(shlex.split(command)[1:])
    if flags.help:
        return
    with composer(flags) as opened:
        jobs = opened.jobs(flags.overrides) if flags.multirun else [Job(flags.overrides)]
        for job in jobs:
            composed = opened.compose(job)
            if composed.study is None:
                check(composed.config)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_every_method_is_in_the_readme_with_a_command_and_is_run_small() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| `(entitrack .+)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(dict.fromkeys(name for name, _ in rows))
    assert {name for name, _ in rows} == set(method_names()) == set(SETTINGS)
    assert all(f"method={name}" in command or name == "path_patching" for name, command in rows)


def test_the_readme_is_read_in_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 180


def test_modules_that_pages_name_are_there() -> None:
    named = {word for page in PAGES for word in re.findall(r"python -m ([\w.]+)", page.read_text())}
    for name in named - {"venv", "pytest"}:
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name
    jobs = {word for page in PAGES for word in re.findall(r"python (jobs/\w+\.py)", page.read_text())}
    assert all((ROOT / job).is_file() for job in jobs)
