"""Path patching as a method: stages, choice of heads, empty groups, published quirks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack.backends import Local, Runner
from entitrack.errors import UserError
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching import Settings, run
from entitrack.methods.path_patching_result import PathPatchingResult
from entitrack.methods.selection import Choice, Selection
from entitrack.methods.stages import Stage
from entitrack.models.anatomy import given_architecture
from entitrack.models.family import Checkpoint, Family

STAGES = [
    Stage("value_fetcher", "last", "logits", "", 4),
    Stage("pos_transmitter", "last", "q", "value_fetcher", 2),
    Stage("pos_detector", "query_label", "v", "pos_transmitter", 2),
    Stage("struct_reader", "prev_query_label", "v", "pos_detector", 2),
]


def found(experiment: Experiment, **settings: Any) -> PathPatchingResult:
    return run(experiment, Settings(stages=STAGES, **settings))


def test_the_circuit_is_what_the_scores_say(golden_experiment: Experiment) -> None:
    result = found(golden_experiment)
    assert [group.name for group in result.circuit.groups] == [stage.name for stage in STAGES]
    for stage in result.stages:
        torch.testing.assert_close(stage.scores, stage.effects.mean(0))
        chosen = [float(stage.scores[head]) for head in stage.heads]
        assert chosen == sorted(chosen)
        assert all(score < 0 for score in chosen)
        assert len(chosen) <= stage.stage.size
        assert stage.noise < 1e-3
    assert result.circuit.found_on["model"] == "base"


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"padding": "left"}])
def test_scores_depend_on_neither_batches_nor_padding(golden_experiment: Experiment, changes: Any) -> None:
    whole, other = found(golden_experiment), found(dataclasses.replace(golden_experiment, **changes))
    for first, second in zip(whole.stages, other.stages, strict=True):
        torch.testing.assert_close(first.scores, second.scores, atol=1e-5, rtol=1e-4)


def test_one_job_a_batch_and_stage(golden_experiment: Experiment) -> None:
    result = found(golden_experiment)
    answers = 2
    assert golden_experiment.runner.cost.units == answers + -(-result.prompts // 21) * len(result.stages)


def test_the_published_procedure_reads_every_head_elsewhere(golden_experiment: Experiment) -> None:
    """`compat=paper` redraws where the counterfactual is read: other scores, in the last stage alone."""
    paper = dataclasses.replace(golden_experiment.task, compat="paper")  # type: ignore[type-var]
    default = found(golden_experiment)
    published = found(dataclasses.replace(golden_experiment, task=paper))
    by_name = {stage.stage.name: stage for stage in published.stages}
    for stage in default.stages:
        if stage.stage.name == "struct_reader":
            assert not torch.allclose(stage.scores, by_name[stage.stage.name].scores, atol=1e-6)


def test_an_empty_group_leaves_the_later_ones_empty(
    golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entitrack.methods.path_patching.select", lambda *_: Selection((), 1.0))
    result = found(golden_experiment)
    assert result.circuit.size == 0
    assert set(result.skipped) == {"pos_transmitter", "pos_detector", "struct_reader"}
    assert any("value_fetcher is empty: no head's score is below zero by the noise" in note for note in result.notes)


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (1, {"component": "x"}, r"stages\.1\.component: unknown component 'x'"),
        (0, {"role": "first"}, r"stages\.0\.role: the task has no role 'first'; available: last"),
        (1, {"name": "value_fetcher"}, r"stages\.1\.name: two stages"),
        (1, {"receivers": ""}, r"stages\.1\.receivers: logits have no receivers"),
        (1, {"receivers": "later"}, r"stages\.1\.receivers: no earlier stage 'later'; available: value_fetcher"),
        (1, {"role": "query_label"}, r"stages\.1\.role: q is read where the receivers are, at 'last'"),
    ],
)
def test_stages_that_cannot_run_are_named(
    golden_experiment: Experiment, number: int, changes: Any, message: str
) -> None:
    stages = [*STAGES]
    stages[number] = dataclasses.replace(stages[number], **changes)
    with pytest.raises(UserError, match=message):
        run(golden_experiment, Settings(stages=stages))
    with pytest.raises(UserError, match="there are none"):
        run(golden_experiment, Settings())


def test_the_naive_way_agrees_and_a_wrong_anatomy_is_found_out(golden_experiment: Experiment) -> None:
    result = found(golden_experiment, verify=4)
    for stage in result.stages:
        assert stage.verified is not None
        assert stage.verified[0] < 1e-5
        assert stage.verified[1] == 4
    wrong = golden_experiment.base()
    anatomy = {**wrong.anatomy, "parallel": True}
    golden_experiment.family._loaded["base"] = dataclasses.replace(wrong, anatomy=anatomy)  # type: ignore[arg-type]
    try:
        with pytest.raises(UserError, match=r"method\.verify: stage 'value_fetcher' is .* off the naive way"):
            found(golden_experiment, verify=8)
    finally:
        golden_experiment.family._loaded["base"] = wrong


def test_an_architecture_that_is_not_described_in_full_is_scored_the_naive_way(
    golden_experiment: Experiment, golden_folder: Path
) -> None:
    names = {
        "layers": "model.layers",
        "o_proj": "self_attn.o_proj",
        "projections": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    }
    members = {"base": Checkpoint(str(golden_folder / "base"))}
    family = Family("golden", "base", members, device="cpu", architecture=given_architecture(names))
    task = dataclasses.replace(golden_experiment.task, count=14)  # type: ignore[type-var]
    small = dataclasses.replace(golden_experiment, task=task)
    fast = found(small)
    slow = found(dataclasses.replace(small, family=family))
    assert slow.notes[0].startswith("warning: scored the naive way")
    for first, second in zip(fast.stages, slow.stages, strict=True):
        torch.testing.assert_close(first.scores, second.scores, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"method\.screen: first-order path patching needs layers"):
        found(dataclasses.replace(small, family=family), screen="attribution:0.5")


def test_stages_share_the_passes_of_their_prompts(golden_experiment: Experiment, monkeypatch: Any) -> None:
    """Each batch has its passes run once, unless there is no memory to keep them; the scores are the same."""
    from entitrack.engine import passes

    runs: list[int] = []
    run_prompts = passes.run_prompts

    def counted(*given: Any, **named: Any) -> Any:
        runs.append(1)
        return run_prompts(*given, **named)

    monkeypatch.setattr(passes, "run_prompts", counted)
    shared = found(dataclasses.replace(golden_experiment, batch_size=21))
    batches = len(runs)
    assert batches == -(-shared.prompts // 21)
    alone = found(dataclasses.replace(golden_experiment, batch_size=21), memory="0.000001")
    assert len(runs) - batches == batches * sum(stage.peak_bytes > 0 for stage in alone.stages) > batches
    for first, second in zip(shared.stages, alone.stages, strict=True):
        torch.testing.assert_close(first.scores, second.scores, atol=1e-6, rtol=1e-5)


def test_screening_scores_its_share_exactly(golden_experiment: Experiment) -> None:
    whole, screened = found(golden_experiment), found(golden_experiment, screen="attribution:0.25")
    full, part = whole.stages[0], screened.stages[0]
    scored = ~part.scores.isnan()
    assert int(scored.sum()) == 6
    torch.testing.assert_close(part.scores[scored], full.scores[scored], atol=1e-5, rtol=1e-4)
    assert {head for head in part.heads} <= {(la, he) for la, he in scored.nonzero().tolist()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"screen": "gradient:0.2"}, r"method\.screen: 'gradient:0.2' does not read attribution:SHARE"),
        ({"screen": "attribution:2"}, r"method\.screen"),
        ({"memory": "much"}, r"method\.memory: 'much' is neither 'auto' nor"),
        ({"prompts": "some"}, r"method\.prompts: unknown choice 'some'; available: right, all"),
        ({"choose": Choice(by="taste")}, r"method\.choose\.by: unknown way 'taste'; available: count, threshold, fdr"),
        ({"model": "nope"}, r"method\.model: family 'golden' has no member 'nope'"),
    ],
)
def test_settings_that_cannot_be_are_named(golden_experiment: Experiment, settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(golden_experiment, **settings)


def test_a_killed_run_resumes(golden_experiment: Experiment, tmp_path: Any) -> None:
    """What was finished before an interruption is not computed again, and the result is the same."""
    from entitrack.store import Store

    class Interrupted(Local):
        left = 1

        def run(self, model: Any, function: Any, inputs: Any, kept: Any = None) -> Any:
            if Interrupted.left == 0:
                raise KeyboardInterrupt
            Interrupted.left -= 1
            return super().run(model, function, inputs, kept)

    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        found(dataclasses.replace(golden_experiment, runner=Runner(Interrupted(), store)))
    resumed = dataclasses.replace(golden_experiment, runner=Runner(Local(), store))
    again = found(resumed)
    assert resumed.runner.cost.reused == 1
    for stage, expected in zip(again.stages, found(golden_experiment).stages, strict=True):
        torch.testing.assert_close(stage.scores, expected.scores)
