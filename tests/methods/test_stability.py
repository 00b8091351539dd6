"""Searching a circuit again: what is counted is what path patching finds by itself, search by search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from entitrack.core.circuits import Circuit, Group
from entitrack.core.drawing import LEFT_OUT, TESTED
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.core.stages import Stage
from entitrack.methods import run_method
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.method import begin_search
from entitrack.methods.path_patching.settings import Settings as SearchSettings
from entitrack.methods.stability import method
from entitrack.methods.stability.searches import FoundGroups, Searches, halves_of
from entitrack.methods.stability.settings import Settings
from entitrack.models.anatomy import Head
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.store import Store
from entitrack.tasks import Pair, TaskBase, TaskSettings
from entitrack.tasks.boxes import Boxes
from tests.examples.fruit import Fruit
from tests.methods import hand_made

STAGES = [
    Stage(name="value_fetcher", role="last", size=4),
    Stage(name="pos_transmitter", role="last", component="q", receivers="value_fetcher", size=2),
]
COUNT = 84


@pytest.fixture
def experiment(tiny_family: Family) -> Experiment:
    return Experiment(tiny_family, Boxes(count=COUNT), Runner(Local()), batch_size=42)


def search_again(experiment: Experiment, **settings: Any) -> Result:
    return run_method(
        "stability", experiment, Settings(**{"stages": STAGES, "seeds": [], "halves": 0, "force": True, **settings})
    )


def search_once(experiment: Experiment, task: Any) -> Result:
    return run_method("path_patching", replace(experiment, task=task), SearchSettings(force=True, stages=STAGES))


def heads_of(result: Result) -> dict[str, list[Head]]:
    circuit = result.artefacts["circuit"]
    assert isinstance(circuit, Circuit)
    return {group.name: list(group.heads) for group in circuit.groups}


def counts_of(heads: Sequence[Sequence[Head]], size: int) -> torch.Tensor:
    """Share of groups that have each head, counted head by head."""
    return torch.tensor(
        [[sum((layer, head) in each for each in heads) / len(heads) for head in range(6)] for layer in range(size)]
    ).double()


def test_inclusion_is_how_often_path_patching_by_itself_finds_a_head(experiment: Experiment) -> None:
    """Seeds and phrasings, each against runs of its own; what is written are the heads of two of three."""
    result = search_again(experiment, seeds=[3, 1, 2], phrasings=["object_first", "label_first"], least=0.6)
    apart = {seed: search_once(experiment, Boxes(count=COUNT, seed=seed)) for seed in (3, 1, 2)}
    other = search_once(experiment, Boxes(count=COUNT, seed=3, phrasing="label_first"))
    assert result.facts["over"] == {
        "seeds": ["seed 3", "seed 1", "seed 2"],
        "phrasings": ["seed 3", "phrasing label_first"],  # its own words on the first seed are not searched twice
    }
    runs = {"seeds": [*apart.values()], "phrasings": [apart[3], other]}
    for stage in STAGES:
        for over, those in runs.items():
            groups = [heads_of(one)[stage.name] for one in those]
            torch.testing.assert_close(result["inclusion"].at(over=over, stage=stage.name).values, counts_of(groups, 4))
            overlaps = [len(set(one) & set(two)) / len(set(one) | set(two)) for one, two in combinations(groups, 2)]
            assert result["jaccard"].number(over=over, stage=stage.name) == pytest.approx(np.mean(overlaps))
        groups = [heads_of(one)[stage.name] for one in apart.values()]
        scores = torch.stack([one["score"].at(stage=stage.name).values for one in apart.values()])
        firm = [head for head in product(range(4), range(6)) if sum(head in each for each in groups) >= 2]
        firm.sort(key=lambda head: float(scores[:, head[0], head[1]].mean()))
        assert heads_of(result)[stage.name] == firm
    for seed, one in apart.items():
        found = result["score"].at(search=f"seed {seed}").values
        torch.testing.assert_close(found, one["score"].values, atol=1e-6, rtol=1e-4)
    circuit = result.artefacts["circuit"]
    assert isinstance(circuit, Circuit)
    assert circuit.found_on["task"] == Boxes(count=COUNT, seed=3).fingerprint
    assert list(circuit.found_on["searches"]) == ["seed 3", "seed 1", "seed 2"]


class Some(TaskBase):
    """Pairs that are given."""

    stages = STAGES

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = list(pairs)

    @property
    def fingerprint(self) -> dict[str, object]:
        return {}

    def prompts(self) -> list[Any]:
        return [pair.clean for pair in self._pairs]

    def pairs(self) -> list[Pair]:
        return self._pairs


def test_a_half_is_a_whole_search_of_its_contexts(experiment: Experiment) -> None:
    """Receivers too: path patching by itself, on a task that has these contexts alone."""
    result = search_again(experiment, halves=2)
    assert result.facts["over"] == {"halves": ["half 1", "half 2"]}
    whole = begin_search(experiment, SearchSettings(force=True, stages=STAGES))
    for name, half in halves_of(whole, 2).items():
        alone = search_once(experiment, Some(half.pairs))
        (facts,) = [each for each in result.facts["searches"] if each["name"] == name]
        assert {stage: [tuple(head) for head in heads] for stage, heads in facts["heads"].items()} == heads_of(alone)
        found = result["score"].at(search=name).values
        torch.testing.assert_close(found, alone["score"].values, atol=1e-6, rtol=1e-4)
    assert isinstance(result.artefacts["circuit"], Circuit)
    assert result.artefacts["circuit"].found_on["over"] == "halves"


def test_halves_are_of_whole_contexts_in_pairs_of_both(experiment: Experiment) -> None:
    whole = begin_search(experiment, SearchSettings(force=True, stages=STAGES, prompts="all"))
    halves = halves_of(whole, 5)
    assert list(halves) == [f"half {number}" for number in range(1, 6)]
    contexts = [{pair.clean.cluster for pair in half.pairs} for half in halves.values()]
    for one, other in ((0, 1), (2, 3)):
        assert not contexts[one] & contexts[other]
        assert contexts[one] | contexts[other] == set(range(12))
        assert len(contexts[one]) == 6
    assert contexts[0] not in (contexts[2], contexts[3])
    for half, those in zip(halves.values(), contexts, strict=True):
        assert [*half.pairs] == [pair for pair in whole.pairs if pair.clean.cluster in those]
    assert [half.pairs for half in halves_of(whole, 5).values()] == [half.pairs for half in halves.values()]


def test_searches_are_kept_and_shared_with_path_patching(experiment: Experiment, tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = replace(experiment, runner=Runner(Local(), store))
    search_once(kept, Boxes(count=COUNT, seed=1))
    alone = kept.runner.cost.units
    first = replace(experiment, runner=Runner(Local(), store))
    one = search_again(first, seeds=[1], halves=2)
    assert first.runner.cost.reused == alone
    again = replace(experiment, runner=Runner(Local(), store))
    other = search_again(again, seeds=[1], halves=2)
    assert again.runner.cost.units == 0
    assert all(torch.equal(one[name].values, other[name].values) for name in ("inclusion", "chosen"))


def random_searches(random: Random, count: int = 5) -> Searches:
    """Searches that choose any heads at all."""
    stage, heads = Stage(name="g", role="last", size=6), list(product(range(4), range(6)))
    found = [
        FoundGroups(
            name=f"seed {number}",
            task={"seed": number},
            prompts=7,
            contexts=1,
            digests=(str(number),),
            texts=str(number),
            heads={"g": tuple(random.sample(heads, 6))},
            scores=torch.tensor([[random.gauss(0, 1) for _ in range(6)] for _ in range(4)])[None],
            skipped={},
        )
        for number in range(count)
    ]
    return Searches(None, [stage], found, {"seeds": [each.name for each in found]})  # type: ignore[arg-type]


def test_searches_that_find_anything_at_all_overlap_as_chance() -> None:
    """A known null."""
    random = Random(1)
    measured = [method._measurements(random_searches(random), seed) for seed in range(40)]
    where = {"over": "seeds", "stage": "g"}
    overlaps = [each["jaccard"].number(**where) for each in measured]
    chance = measured[0]["jaccard_by_chance"].number(**where)
    expected = [shared / (12 - shared) * stats.hypergeom(24, 6, 6).pmf(shared) for shared in range(7)]
    assert chance == pytest.approx(sum(expected))
    assert np.mean(overlaps) == pytest.approx(chance, abs=0.02)
    assert sum(each["p_value"].number(**where) <= 0.05 for each in measured) <= 6
    assert abs(np.mean([each["rank_correlation"].number(**where) for each in measured])) < 0.05


def test_ranks_are_spearmans_over_heads_that_a_path_leads_from() -> None:
    random = torch.Generator().manual_seed(0)
    scores = [torch.randn(4, 6, generator=random) for _ in range(3)]
    scores[0][0] = 0.0  # no path leads from there
    scores[1][1, 2] = torch.nan  # this was not scored
    expected = []
    for one, other in combinations(scores, 2):
        rows = [
            (float(left), float(right))
            for left, right in zip(one.flatten(), other.flatten(), strict=True)
            if left != 0 and right != 0 and left == left and right == right
        ]
        expected.append(stats.spearmanr(rows).statistic)
    assert method.mean_rank_correlation(scores) == pytest.approx(np.mean(expected))
    assert math.isnan(method.mean_rank_correlation(scores[:1]))
    assert math.isnan(method.mean_rank_correlation([torch.full((4, 6), torch.nan)] * 2))


class Seeded(Fruit):
    seed: int = 0


class Plain(TaskBase):
    """A task that is no settings class."""


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            Fruit(count=8),
            {"seeds": [0]},
            r"^method\.seeds: task '.*Fruit' has no setting 'seed'; available: count, baskets; give it a field `seed`"
            r" .*, or say method\.seeds=\[\] and search halves of its contexts alone$",
        ),
        (Plain(), {"seeds": [0]}, r"^method\.seeds: task '.*Plain' has no setting 'seed'; give it"),
        (Seeded(count=8), {"seeds": [0], "phrasings": ["x"]}, r"^method\.phrasings: task .* has no setting 'phrasing'"),
        (
            Boxes(count=7),
            {"phrasings": ["x"]},
            r"^method\.phrasings\.0: task\.phrasing: unknown phrasing 'x'; available",
        ),
        (Boxes(count=7), {}, r"^method\.seeds: there are none, nor phrasings, nor halves: nothing is searched"),
        (Boxes(count=7), {"seeds": [1, 2, 1]}, r"^method\.seeds: 1 is there twice"),
        (Boxes(count=7), {"halves": -1}, r"^method\.halves: -1 is not 0 or more"),
        (Boxes(count=7), {"least": 0.0}, r"^method\.least: 0\.0 is not above 0"),
        (
            Boxes(count=7),
            {"halves": 2, "prompts": "all"},
            r"^method\.halves: the prompts .* of 1 context, which has no",
        ),
    ],
)
def test_what_cannot_be_searched_is_named_in_one_line(
    experiment: Experiment, task: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        search_again(replace(experiment, task=task), **settings)
    assert "\n" not in str(error.value)
    assert experiment.runner.cost.units <= 1, "the model is asked the prompts at most"


def test_a_task_without_seeds_is_searched_on_halves(experiment: Experiment) -> None:
    fruit = replace(experiment, task=Fruit(count=40, baskets=3))
    settings = Settings(force=True, seeds=[], halves=2, prompts="all")
    result = run_method("stability", fruit, settings)
    assert list(result.facts["over"]) == ["halves"]
    assert list(result.facts["stages"]) == ["fetcher", "asker"]
    assert result.facts["circuit"] is None  # the base's own is about boxes
    assert any("no circuit was named" in note for note in result.notes)
    assert issubclass(Fruit, TaskSettings)


def test_a_circuit_is_held_against_searches_on_other_prompts(experiment: Experiment, tmp_path: Path) -> None:
    """Found on seed 1: that search finds it whole, and does not count; nor does a group that was found otherwise."""
    found = search_once(experiment, Boxes(count=COUNT, seed=1)).artefacts["circuit"]
    assert isinstance(found, Circuit)
    found.write(tmp_path / "c.json")
    named = replace(experiment, circuit_name=str(tmp_path / "c.json"))
    result = search_again(named, seeds=[1, 2], halves=2)
    assert result.facts["circuit"]["same_prompts"] == ["seed 1", "half 1", "half 2"]
    second = heads_of(search_once(experiment, Boxes(count=COUNT, seed=2)))
    against = {row[:2]: row[2:] for row in result.tables[1].rows}
    for stage in STAGES:
        mine, theirs = found.group(stage.name).heads, second[stage.name]
        size, share, never, always = against[stage.name, "seeds"]
        assert size == len(mine)
        assert share == f"{len(set(mine) & set(theirs)) / len(mine):.2f}"
        assert never == ", ".join(f"{layer}.{head}" for layer, head in mine if (layer, head) not in theirs)
        assert always == ", ".join(f"{layer}.{head}" for layer, head in theirs if (layer, head) not in mine)
    assert any("was found on the prompts of seed 1, which finds nothing again" in note for note in result.notes)
    stages = [dict(stage.model_dump()) for stage in STAGES]
    stages[1] |= {"component": "k"}
    other = replace(found, found_on={**found.found_on, "settings": {"stages": stages}})
    why = [method.why_not(group, other, STAGES) for group in other.groups]
    assert why == [None, "was found through k of value_fetcher, and is looked for through q of value_fetcher"]
    assert method.why_not(Group("more", "last", ()), other, STAGES) == "is no stage of these searches"
    assert method.why_not(Group("value_fetcher", "query_label", ()), other, STAGES) == "is no stage of these searches"


def test_prompts_are_the_same_if_they_are_drawn_alike() -> None:
    on = Boxes(count=14).fingerprint
    assert method.same_prompts(on, Boxes(count=504).fingerprint)
    assert method.same_prompts({**on, "compat": "default"}, on)
    for other in (Boxes(seed=1), Boxes(boxes=3), Boxes(split="train"), Boxes(phrasing="label_first")):
        assert not method.same_prompts(on, other.fingerprint)
    several = {"task": on, "searches": {"seed 1": {"seed": 1}, "seed 2": {"seed": 2}}}
    assert method.origins(several) == [on, {"seed": 1}, {"seed": 2}]
    assert method.origins({}) == method.origins({"task": "boxes", "searches": 3}) == []


def made() -> Result:
    """Four searches of two stages, by hand: two seeds, and two halves; the second stage has no receivers in half 2."""
    names, stages = ("seed 0", "seed 1", "half 1", "half 2"), ("a", "b")
    heads: list[dict[str, list[Head]]] = [
        {"a": [(0, 0), (1, 1)], "b": [(0, 1)]},
        {"a": [(0, 0), (1, 0)], "b": [(0, 1)]},
        {"a": [(0, 0), (1, 1)], "b": []},
        {"a": [], "b": []},
    ]
    chosen: Any = [[[[(la, he) in each[st] for he in (0, 1)] for la in (0, 1)] for st in stages] for each in heads]
    over = {"seeds": ["seed 0", "seed 1"], "halves": ["half 1", "half 2"]}
    inclusion = torch.tensor(chosen).double().view(2, 2, 2, 2, 2).mean(1)
    values = {"jaccard": [[1 / 3, 1.0], [0.0, math.nan]], "jaccard_by_chance": [[0.25, 0.5], [0.0, math.nan]]}
    values |= {"p_value": [[0.5, 0.25], [1.0, math.nan]], "rank_correlation": [[0.75, -0.5], [math.nan, math.nan]]}
    groups = [
        {"name": "a", "role": "last", "heads": [(0, 1), (1, 1)], "why_not": None},
        {
            "name": "b",
            "role": "x",
            "heads": [(0, 1)],
            "why_not": "was found through k of a, and is looked for through q",
        },
    ]
    facts: dict[str, Any] = {
        "model": "base",
        "stages": {"a": {"role": "last", "size": 1}, "b": {"role": "x", "size": None}},
        "searches": [
            {
                **{"name": name, "task": {}, "prompts": 7, "contexts": 3, "texts": "t", "heads": each},
                "skipped": {"b": "its receivers, a, are none"} if name == "half 2" else {},
            }
            for name, each in zip(names, heads, strict=True)
        ],
        "over": over,
        "least": 0.5,
        "circuit": {"name": "mine", "groups": groups, "same_prompts": ["seed 0", "half 1"]},
        "written": {"a": [(0, 0)], "b": [(0, 1)]},
    }
    labels: dict[str, Any] = {"over": tuple(over), "stage": stages}
    return hand_made.laid_out(
        "stability",
        facts,
        {
            "inclusion": hand_made.measured(inclusion.tolist(), "over stage layer head", **labels),
            "chosen": hand_made.measured(chosen, "search stage layer head", search=names, stage=stages),
            **{name: hand_made.measured(rows, "over stage", **labels) for name, rows in values.items()},
        },
    )


def test_tables_say_what_was_counted() -> None:
    agreement, against, heads, searches = made().tables
    assert agreement.title == "Circuit of base, searched again: how far two searches agree"
    assert agreement.columns == (
        *("group", "role", "over", "searches", "heads", "in all"),
        *("Jaccard", "its chance", "p", "ranks"),
    )
    assert agreement.rows == (
        ("a", "last", "seeds", 2, "2.0", 1, "0.33", "0.25", "5.0e-01", "0.75"),
        ("a", "last", "halves", 2, "1.0", 0, "0.00", "0.00", "1.0e+00", ""),
        ("b", "x", "seeds", 2, "1.0", 1, "1.00", "0.50", "2.5e-01", "-0.50"),
        ("b", "x", "halves", 2, "0.0", 0, "", "", "", ""),
    )
    assert against.columns == ("group", "over", "in it", "found again", "never again", "always, not in it")
    assert against.rows == (
        ("a", "seeds", 2, "0.00", "0.1, 1.1", "0.0, 1.0"),  # seed 1 alone: seed 0 is what it was found on
        ("a", "halves", 2, "0.25", "0.1", ""),
    )
    assert heads.title.endswith("; rank in the circuit mine")
    assert heads.columns == ("group", "layer.head", "seeds [95 %]", "halves [95 %]", "rank", "written")
    assert hand_made.rows(heads) == [
        ["a", "0.0", 1.0, 0.5, None, "yes"],
        ["a", "1.1", 0.5, 0.5, 2, "no"],
        ["a", "1.0", 0.5, 0.0, None, "no"],
        ["b", "0.1", 1.0, 0.0, None, "yes"],
    ]
    both, one = stats.binomtest(2, 2).proportion_ci(), stats.binomtest(1, 2).proportion_ci()
    assert (heads.rows[0][2].low, heads.rows[0][2].high) == pytest.approx(tuple(both))  # type: ignore[union-attr]
    assert (heads.rows[1][2].low, heads.rows[1][2].high) == pytest.approx(tuple(one))  # type: ignore[union-attr]
    assert searches.columns == ("search", "prompts", "contexts", "a", "b")
    assert searches.rows[0] == ("seed 0", 7, 3, 2, 1)
    assert searches.rows[-1] == ("half 2", 7, 3, 0, 0)


def test_where_no_two_searches_agree_in_anything_it_says_what_is_found_again_of_the_circuit() -> None:
    whole = made()
    none = replace(whole["jaccard"], values=torch.full_like(whole["jaccard"].values, math.nan))
    alone = replace(whole, measurements={**whole.measurements, "jaccard": none, "jaccard_by_chance": none})
    assert whole.headline == "Jaccard of two searches 0.00 to 1.00, by chance 0.00 to 0.50"
    assert alone.headline == "of the circuit's groups 0.00 to 0.25 is found again"
    assert alone.claim() == "Of the circuit of base, a search over seeds finds again: a 0.00."
    without = replace(alone, facts={**alone.facts, "circuit": None})
    assert without.headline == "no two searches and no circuit to compare with"


def test_notes_say_what_does_not_count() -> None:
    notes = made().notes
    for note in (
        "warning: prompts are the same on every seed, and only their counterfactuals differ",
        "mine was found on the prompts of seed 0, which finds nothing again",
        "halves are of the prompts that mine was found on, or of some of them",
        "group b of mine was found through k of a, and is looked for through q: not held against it",
        "group a of mine has 2 heads, and a search chooses 1 at most",
        "group b is empty in 1 of 4 searches: its receivers, a, are none",
        "written: chosen by at least 0.5 of the searches over seeds; it is circuit.json",
    ):
        assert note in notes


def test_the_figure_has_the_shares_of_the_deciding_searches() -> None:
    first, second = hand_made.row_panels(made())
    assert [hand_made.plain(row.marks[0].value) for row in first.rows] == [1.0, 0.5, 0.5]
    assert [row.name for row in first.rows] == ["0.0", "1.1", "1.0"]
    assert [row.marks[0].hue for row in first.rows] == [TESTED, LEFT_OUT, LEFT_OUT]
    assert (first.title, second.title) == ("a", "b")
    assert first.axis == "share of searches (seeds)"
    assert first.lines[0].at == made().facts["least"]
