"""Before the first job: one clear line if it cannot work, and nothing is submitted."""

from __future__ import annotations

import platform
import re
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

import pytest

from entitrack.cli.kinds import BACKENDS
from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.ndif.backend import Ndif
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.versions import OLDEST_PYTHON, differences
from tests.remote.harness import KEY
from tests.remote.scenarios import UNITS, Bench


def refused(bench: Bench, posts: int = 0, **settings: Any) -> str:
    """What the user reads, after no job was taken, and so many were handed in."""
    before = bench.server.counts()["posts"]
    with pytest.raises(UserError) as caught:
        bench.run(bench.runner("refused", **settings))
    assert bench.server.counts()["posts"] == before + posts
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_is_not_hosted_is_refused_with_what_is(bench: Bench, golden_folder: Path) -> None:
    family = Family("other", "base", {"base": Checkpoint(str(golden_folder / "base"), hosted="someone/else")})
    family.dispatch = False
    with pytest.raises(UserError, match=r"model.members.base: .* does not host 'someone/else'") as caught:
        next(bench.runner("other", deploy="never").map(family.load("base"), answer, bench.inputs))
    assert str(golden_folder / "donor") in str(caught.value)


def test_nothing_hosted_is_said(bench: Bench) -> None:
    bench.server.order("not_listed", 99)
    try:
        assert "available: nothing at the moment; backend.deploy=auto" in refused(bench, deploy="never")
    finally:
        bench.server.order("not_listed", 0)


def test_versions_that_cannot_work_are_refused_with_both_and_what_to_install(bench: Bench) -> None:
    for fault in ("other_nnsight", "other_transformers", "old_python"):
        bench.server.order(fault, 1)
    said = refused(bench)
    assert "nnsight 0.8.1 here and 0.7.0 there, transformers 5" in said
    assert "install nnsight==0.7.0 transformers==4.57.0, and ask for Python 3.11 or later there" in said
    assert "backend.check_versions=false" in said
    bench.server.order("other_nnsight", 1)
    assert len(bench.run(bench.runner("anyway", check_versions=False))) == UNITS


def test_versions_that_work_are_said_and_the_run_goes_on(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.order("other_torch", 1)
    assert len(bench.run(bench.runner("older"))) == UNITS
    said = capsys.readouterr().err
    assert re.search(
        r"runs other versions: torch 2\.\S+ here and 2\.1\.0 there; .*, install torch==2\.1\.0$", said, re.M
    )


OTHERS = {"nnsight": ("0.9.0", "0.8.7"), "torch": ("1.13.1", "2.0.1+cu118"), "transformers": ("4.9.0", "5.0.0rc1"),
          "python": ("3.10.4", "3.14.0")}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_a_little_works_and_what_differs_more_does_not(name: str) -> None:
    (far,), (near,) = (differences({name: other}) for other in OTHERS[name])
    assert (far.works, near.works) == (False, True)
    assert near.there == OTHERS[name][1].partition("+")[0]


def test_what_is_the_same_but_for_its_build_does_not_differ() -> None:
    same = {name: version(name) for name in ("nnsight", "torch", "transformers")}
    assert differences({**same, "torch": same["torch"].partition("+")[0] + "+cu128", "peft": "0.0.1"}) == []
    assert differences({"python": platform.python_version(), "torch": same["torch"] + ".post1"}) == []


def test_the_oldest_python_is_the_one_that_the_package_asks_for() -> None:
    assert metadata("entitrack")["Requires-Python"] == f">={'.'.join(map(str, OLDEST_PYTHON))}"


def test_a_key_is_judged_by_what_the_first_job_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked whose key it is, a server says of any key that it is nobody's."""
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    bench.server.need_key(KEY)
    try:
        for key, says in (
            (None, "wants a key and there is none (Missing or invalid API key.)"),
            (KEY[::-1], "knows no such key, or does not allow it this (Invalid API key.)"),
            ("wrong", "refused a job: Invalid API key format: '***'."),
        ):
            said = refused(bench, posts=1, key=key)
            assert said.startswith("backend.key: ")
            assert says in said
            assert "set NDIF_API_KEY or backend.key to one that it gave you" in said
        assert len(bench.run(bench.runner("right", key=KEY))) == UNITS
    finally:
        bench.server.need_key("")


def test_a_client_that_is_too_old_is_refused_with_what_to_install(bench: Bench) -> None:
    bench.server.order("old_client", 1)
    said = refused(bench, posts=1)
    assert "below the minimum supported 0.9.0" in said
    assert "install the nnsight and the Python that it asks for" in said


def test_the_public_service_is_not_asked_without_a_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    assert "wants a key and there is none" in refused(bench, host="https://api.ndif.us")


def test_a_server_that_is_not_there_is_said(bench: Bench) -> None:
    assert "the connection failed" in refused(bench, host="http://127.0.0.1:9", retries=1)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"backend\.host: 'ndif\.us' is not an address"):
        BACKENDS["ndif"].make(Settings(host="ndif.us"))


def test_host_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", "mine")
    monkeypatch.setenv("NDIF_HOST", "http://127.0.0.1:1/")
    settings = Ndif(Settings()).settings
    assert (settings.api_key, settings.address) == ("mine", "http://127.0.0.1:1")
