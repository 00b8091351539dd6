"""Digests: equal for what is equal, and for nothing else."""

from __future__ import annotations

from entitrack.record.provenance import digest_of
from tests.record.small_runs import Runs


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
