"""Digests: equal for what is equal, and for nothing else."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib.metadata import version

from entitrack import Circuit, Study
from entitrack.core.circuits import Group
from entitrack.core.masks import Masks
from entitrack.record.provenance import LIBRARIES, digest_of
from tests.record.small_runs import Runs, words_of


def test_a_digest_is_of_the_content_and_not_of_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [2, 3]}) == digest_of({"b": [2, 3], "a": 1})
    values = [{"a": 1}, {"a": 2}, {"b": 1}, [1, 2], [2, 1], "a", None]
    assert len({digest_of(value) for value in values}) == len(values)


def test_costs_are_rounded_to_thousandths_and_their_seconds_are_those_of_the_run(runs: Runs) -> None:
    costs = [runs(method)[0].provenance["cost"] for method in ("cmap", "evaluate", "positions", "attribution")]
    for cost in costs:
        assert all(round(value, 3) == value for value in cost.values())
        assert 0 < cost["seconds"] < 300
    assert any(round(cost["seconds"], 2) != cost["seconds"] for cost in costs)


def test_digests_are_of_the_prompts_and_of_the_heads_that_were_used(runs: Runs) -> None:
    result, _ = runs("cmap")
    used, on = result.provenance, result["correct"].prompts
    assert on is not None
    texts = [list(both) for both in zip(on.texts, on.answers, strict=True)]
    assert used["prompts"] == {"count": 30, "digest": digest_of(texts)}
    (circuit,) = used["circuit"]
    assert circuit["file"] == "llama"
    assert circuit["digest"] == digest_of(circuit["groups"])
    counts = {group["name"]: len(group["heads"]) for group in circuit["groups"]}
    assert {name: count for name, count in result.facts["heads"].items() if name != "full circuit"} == counts


def test_masks_that_were_read_are_told_with_what_they_were_found_on() -> None:
    roles = {"value_fetcher": "last", "pos_transmitter": "last", "pos_detector": "query_label"}
    circuit = Circuit(tuple(Group(name, role, ((3, 1), (3, 2))) for name, role in roles.items()))
    rules = {"value_fetcher": "object_value", "pos_transmitter": "positional", "pos_detector": "positional"}
    masks = Masks({name: {rule: ((3, 1),)} for name, rule in rules.items()}, {"model": "goat"})
    study = Study(model="tiny", task={"count": 28}, overrides=("model.device=cpu",), store=None, circuit=circuit)
    result = study.run("cmap", donor="float", masks=masks, controls=0)
    (told,) = result.provenance["masks"]
    groups = {name: {rule: [[3, 1]]} for name, rule in rules.items()}
    assert (told["model"], told["groups"], told["digest"]) == ("goat", groups, digest_of(groups))
    assert told["file"] == result.provenance["config"]["method"]["masks"]


def test_a_result_says_what_ran_where_when_and_by_which_words(runs: Runs) -> None:
    used = runs("cmap")[0].provenance
    (device,) = used["device"]
    assert device.startswith("local/cpu")
    assert set(used["models"]) == {"llama", "float"}
    assert used["versions"] == {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    assert abs((datetime.now() - datetime.fromisoformat(used["date"]).replace(tzinfo=None)).total_seconds()) < 3600
    assert "method=cmap" in used["overrides"]
    assert set(words_of("cmap")) < set(used["command"].split())
    assert used["config"]["method"]["name"] == "cmap"
    assert used["config"]["task"]["count"] == 30
