"""Positions: the template, growth, and laws."""

from __future__ import annotations

import dataclasses

import torch

from entitrack.methods import positions
from entitrack.methods.ablated import prepare, questions
from entitrack.methods.experiment import Experiment
from entitrack.tasks.encoding import encode, template_positions


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
    settings = positions.Settings(mean_count=42, most=3, enough=2.0, metric="probability")
    result = positions.run(golden_experiment, settings)
    assert result.steps[0].places == ("question the",)
    assert sum(len(step.places) for step in result.steps) == 3
    reached = -1.0
    for step in result.steps:
        assert float(step.values.double().mean()) == max(step.others.values()) == step.others[step.place]
        assert len(step.places) == 1 or max(step.others.values()) >= reached
        reached = float(step.values.double().mean())
    assert result.steps[0].place not in result.steps[1].others
    assert len(result.tables[0].rows) == 2 + len(result.steps)
    enough = positions.run(golden_experiment, dataclasses.replace(settings, enough=0.0))
    assert [step.places for step in enough.steps] == [("question the",)]


def test_all_places_live_is_the_model(golden_experiment: Experiment) -> None:
    prompts = golden_experiment.task.prompts()
    settings = positions.Settings(ablation="zero")
    ablated = prepare(golden_experiment, golden_experiment.base(), (), settings, prompts)
    places = template_positions(questions(prompts), golden_experiment.family.tokenizer)
    found = positions.run_live(ablated, places, [tuple(places), ("start",), ()])
    whole = ablated.whole()
    torch.testing.assert_close(found.probability[0], whole.probability[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(found.correct[0], whole.correct[0])
    empty = ablated.run(torch.zeros(1, *ablated.shape, dtype=torch.bool))
    torch.testing.assert_close(found.probability[2], empty.probability[0], atol=1e-6, rtol=1e-4)
