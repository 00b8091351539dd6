"""Positions: the template, growth, laws, and what is shown."""

from __future__ import annotations

import math

import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.ablated_model import prepare
from entitrack.methods.experiment import Experiment, questions
from entitrack.methods.outcomes import Outcomes, measured
from entitrack.methods.positions import growth
from entitrack.methods.positions.live_places import answers_with
from entitrack.methods.positions.settings import Settings
from entitrack.tasks.encoding import encode, template_positions
from tests.methods import hand_made


def positions(experiment: Experiment, settings: Settings) -> Result:
    return run_method("positions", experiment, settings)


def test_the_template_covers_every_token_once(golden_experiment: Experiment) -> None:
    prompts = questions(golden_experiment.task.prompts())
    tokenizer = golden_experiment.family.tokenizer
    places = template_positions(prompts, tokenizer)
    batch = encode(prompts, tokenizer)
    together = torch.cat(list(places.values()), 1).sort(1).values
    assert torch.equal(together, torch.arange(batch.tokens.shape[1]).expand(len(prompts), -1))
    roles = {
        "queried label": "prev_query_label",
        "queried object": "correct_object",
        "question label": "query_label",
        "question the": "last",
    }
    for place, role in roles.items():
        assert torch.equal(places[place][:, 0], batch.positions[role])
    assert places["other label"].shape == (42, 6)
    assert places["start"].tolist() == [[0]] * 42


def test_growth(golden_experiment: Experiment) -> None:
    """The last token first; each step takes the best of its candidates, alone or in pairs."""
    settings = Settings(force=True, mean_count=42, most=3, enough=2.0, metric="probability")
    result = positions(golden_experiment, settings)
    steps, values, candidates = result.facts["steps"], measured(result), result["candidates"]
    assert steps[0]["places"] == ["question the"]
    assert sum(len(step["places"]) for step in steps) == 3
    reached = -1.0
    for number, step in enumerate(steps):
        mean = float(values.means(live=number + 1))
        tried = candidates.at(step=number).values
        best = float(tried[~tried.isnan()].max())
        assert mean == best == float(candidates.at(step=number, candidate=step["name"]).values)
        assert len(step["places"]) == 1 or best >= reached
        reached = mean
    assert math.isnan(float(candidates.at(step=1, candidate="question the").values))
    assert values.names("live") == ("none", *(f"+ {step['name']}" for step in steps), "all")
    assert len(result.tables[0].rows) == 2 + len(steps)
    assert hand_made.retold(result).tables == result.tables
    enough = positions(golden_experiment, settings.model_copy(update={"enough": 0.0}))
    assert [step["places"] for step in enough.facts["steps"]] == [["question the"]]


def test_steps_add_to_what_is_live(golden_experiment: Experiment) -> None:
    """F of a step is that of all places up to it, alone; its tokens are theirs."""
    settings = Settings(force=True, ablation="zero", most=4, enough=9.0, metric="logit_difference")
    result = positions(golden_experiment, settings)
    prompts = golden_experiment.task.prompts()
    ablated = prepare(golden_experiment, golden_experiment.base(), (), settings, prompts, "zero")
    places = template_positions(questions(prompts), golden_experiment.family.tokenizer)
    live: tuple[str, ...] = ()
    for number, step in enumerate(result.facts["steps"]):
        live = (*live, *step["places"])
        assert step["tokens"] == sum(places[name].shape[1] for name in live)
        alone = answers_with(ablated, places, [live])[0].logit_difference
        of_step = result["logit_difference"].at(live=number + 1).values
        torch.testing.assert_close(of_step, alone, atol=1e-4, rtol=1e-4)
    assert len(result.facts["steps"]) > 1


def test_sets_of_unlike_sizes_are_answered_in_order(golden_experiment: Experiment) -> None:
    prompts = golden_experiment.task.prompts()
    ablated = prepare(golden_experiment, golden_experiment.base(), (), Settings(), prompts, "zero")
    places = template_positions(questions(prompts), golden_experiment.family.tokenizer)
    sets = [("question the", "queried label"), ("other label", "question the"), ("question the",)]
    together = answers_with(ablated, places, sets)
    for number, names in enumerate(sets):
        alone = answers_with(ablated, places, [names])[0]
        torch.testing.assert_close(together[number].probability, alone.probability, atol=1e-6, rtol=1e-4)


def test_the_best_has_the_highest_f_and_among_equals_the_largest_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    correct = torch.tensor([[True, False], [True, True], [True, True], [False, False]])
    margin = torch.tensor([[9.0, 9.0], [0.1, 0.3], [0.2, 0.4], [5.0, 5.0]])
    outcomes = Outcomes(torch.zeros(4, 2, dtype=torch.long), correct, torch.zeros(4, 2), margin)
    monkeypatch.setattr(growth, "answers_with", lambda *arguments: outcomes)
    places = {name: torch.zeros(2, 1, dtype=torch.long) for name in "abcde"}
    step = growth.Growth(None, places, "accuracy", torch.zeros(2)).best(("e",), [("a",), ("b",), ("c",), ("d",)])  # type: ignore[arg-type]
    assert (step.places, step.tokens, step.mean) == (("c",), 2, 1.0)
    assert step.candidates == {"a": 0.5, "b": 1.0, "c": 1.0, "d": 0.0}


def test_sessions_of_few_sets_change_nothing(golden_experiment: Experiment) -> None:
    settings = Settings(force=True, ablation="zero", most=2, enough=2.0, metric="probability")
    first = positions(golden_experiment, settings)
    units = golden_experiment.runner.cost.units
    again = positions(golden_experiment, settings.model_copy(update={"circuits_per_session": 4}))
    assert golden_experiment.runner.cost.units - units > units
    assert again.facts == first.facts
    for name in ("probability", "candidates"):
        torch.testing.assert_close(again[name].values, first[name].values, equal_nan=True, atol=1e-5, rtol=1e-4)


def test_all_places_live_is_the_model(golden_experiment: Experiment) -> None:
    prompts = golden_experiment.task.prompts()
    ablated = prepare(golden_experiment, golden_experiment.base(), (), Settings(), prompts, "zero")
    places = template_positions(questions(prompts), golden_experiment.family.tokenizer)
    found = answers_with(ablated, places, [tuple(places), ("start",), ()])
    intact = ablated.intact()
    torch.testing.assert_close(found.probability[0], intact.probability, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.correct[0], intact.correct)
    empty = ablated.run(torch.zeros(1, *ablated.shape, dtype=torch.bool))
    torch.testing.assert_close(found.probability[2], empty.probability[0], atol=1e-6, rtol=1e-4)


def test_there_is_no_published_procedure() -> None:
    with pytest.raises(UserError, match=r"method\.compat: unknown key; available: metric"):
        Settings(compat="paper")  # type: ignore[call-arg]


STEPS = [
    {"name": "end", "places": ["end"], "tokens": 1},
    {"name": "label + object", "places": ["label", "object"], "tokens": 4},
]
PROBABILITY = [[0.1, 0.1, 0.0, 0.2], [0.2, 0.2, 0.2, 0.2], [0.5, 0.6, 0.6, 0.7], [0.7, 0.8, 0.8, 0.9]]
"""On four prompts: with nothing live, after each step, and with everything."""

CANDIDATES = [[0.2, math.nan, math.nan, math.nan], [math.nan, 0.6, 0.3, 0.45]]


def result() -> Result:
    live = ("none", "+ end", "+ label + object", "all")
    names = ("end", "label + object", "label + verb", "object + verb")
    made = {
        "probability": hand_made.measured(PROBABILITY, "live", hand_made.prompts(4), live=live),
        "candidates": hand_made.measured(CANDIDATES, "step candidate", candidate=names),
    }
    return hand_made.laid_out("positions", {"model": "a", "metric": "probability", "steps": STEPS}, made)


def test_the_table_shows_what_was_measured() -> None:
    (table,) = result().tables
    assert table.title == "Live positions in a; F is probability, n = 4"
    assert table.columns == ("live", "tokens", "F [95 %]", "F/F(M) [95 %]", "second best instead")
    assert hand_made.rows(table) == [
        ["none", 0, 0.1, 0.125, None],
        ["+ end", 1, 0.2, 0.25, None],
        ["+ label + object", 4, 0.6, 0.75, "object + verb (0.450)"],
        ["all", None, 0.8, 1.0, None],
    ]


def test_the_figure_draws_growth_and_what_else_was_tried() -> None:
    (panel,) = hand_made.plots(result())
    tried, grown = panel.curves
    assert hand_made.places(grown) == [(0, pytest.approx(0.1)), (1, pytest.approx(0.2)), (2, pytest.approx(0.6))]
    assert hand_made.places(tried)[-2:] == [(2, pytest.approx(0.3)), (2, pytest.approx(0.45))]
    assert (tried.line, tried.faint) == ("none", True)
    (full,) = panel.lines
    assert (full.direction, full.at) == ("across", pytest.approx(0.8))
    assert panel.x_names == ("none", "+ end", "+ label\n+ object")
