"""Every family that ships says what it is, is checked, and is refused in one line where its models are not here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from entitrack.cli.config import CONF
from entitrack.core.errors import UserError
from entitrack.models.checkpoint import ZOO, Checkpoint
from entitrack.models.family import Family
from entitrack.models.settings import FamilySettings

FILES = {file.stem: file for file in (CONF / "model").glob("*.yaml")}
HUB = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")


def family(name: str) -> FamilySettings:
    content = OmegaConf.to_container(OmegaConf.load(FILES[name]))
    assert isinstance(content, dict)
    return FamilySettings(**{str(key): value for key, value in content.items()})


def members() -> list[tuple[str, str, Checkpoint]]:
    """Every member that comes from the hub."""
    every = [(name, member, where) for name in FILES for member, where in family(name).members.items()]
    return [one for one in every if HUB.fullmatch(one[2].path)]


@pytest.mark.parametrize("name", FILES)
def test_its_first_line_says_what_it_is_and_whether_it_was_run_here(name: str) -> None:
    first = FILES[name].read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "run here" in first


@pytest.mark.parametrize("name", FILES)
def test_it_goes_by_its_file_and_has_a_usual_donor(name: str) -> None:
    settings = family(name)
    assert settings.name == name
    assert settings.donor is not None
    assert settings.donor != settings.base
    written = FILES[name].read_text()
    assert ("not run here" in written) == any(HUB.fullmatch(one.path) for one in settings.members.values())


@pytest.mark.parametrize("name", FILES)
def test_what_it_names_of_the_zoo_is_there(name: str) -> None:
    for where in family(name).members.values():
        for place in (where.path, where.adapter or ""):
            if place.startswith("zoo://"):
                assert (ZOO / place.removeprefix("zoo://")).is_dir()


@pytest.mark.parametrize(("name", "member", "where"), members())
def test_a_member_of_the_hub_that_is_not_here_is_refused_in_one_line(
    name: str, member: str, where: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = family(name)
    with pytest.raises(UserError) as error:
        Family(name, settings.base, settings.members, device="cpu").load(member)
    line = str(error.value)
    assert line.startswith(f"model.members.{member}.path: {where.path!r} is not on this machine")
    assert "huggingface.co" in line
    assert "\n" not in line
