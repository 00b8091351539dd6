"""Path patching as a method: stages, choice of heads, empty groups, published quirks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement, numbers
from entitrack.core.quirks import Quirk
from entitrack.core.result import Result
from entitrack.core.stages import Stage
from entitrack.methods import run_method
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.method import begin_search
from entitrack.methods.path_patching.scoring import score_stage
from entitrack.methods.path_patching.selection import select
from entitrack.methods.path_patching.settings import Settings
from entitrack.methods.path_patching.stages import stage_batches
from entitrack.models.anatomy import given_architecture
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Local, Runner
from tests.golden_prompts import GoldenTask
from tests.methods import hand_made

STAGES = [
    Stage(name="value_fetcher", role="last", size=4),
    Stage(name="pos_transmitter", role="last", component="q", receivers="value_fetcher", size=2),
    Stage(name="pos_detector", role="query_label", component="v", receivers="pos_transmitter", size=2),
    Stage(name="struct_reader", role="prev_query_label", component="v", receivers="pos_detector", size=2),
]


def patch_paths(experiment: Experiment, **settings: Any) -> Result:
    return run_method("path_patching", experiment, Settings(**{"stages": STAGES, "force": True, **settings}))


def circuit_of(result: Result) -> Circuit:
    circuit = result.artefacts["circuit"]
    assert isinstance(circuit, Circuit)
    return circuit


def assert_same_scores(one: Result, other: Result, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    assert one["score"].labels == other["score"].labels
    torch.testing.assert_close(one["score"].values, other["score"].values, atol=atol, rtol=rtol)


def test_the_circuit_is_what_the_scores_say(golden_experiment: Experiment) -> None:
    result = patch_paths(golden_experiment)
    circuit = circuit_of(result)
    assert [group.name for group in circuit.groups] == [stage.name for stage in STAGES]
    torch.testing.assert_close(result["score"].values, result["effect"].values.mean(-1))
    torch.testing.assert_close(result["noise"].values, result["null_effect"].values.abs().mean(-1).double())
    assert bool((result["noise"].values < 1e-3).all())
    for stage, group in zip(STAGES, circuit.groups, strict=True):
        if stage.name in result.facts["skipped"]:
            assert not group.heads
            continue
        scores = result["score"].at(stage=stage.name).values
        chosen = [float(scores[head]) for head in group.heads]
        assert result.facts["stages"][stage.name]["heads"] == [list(head) for head in group.heads]
        assert chosen == sorted(chosen)
        assert all(score < 0 for score in chosen)
        assert stage.size is not None
        assert len(chosen) <= stage.size
    assert circuit.found_on["model"] == "base"
    assert 0 < float(result["probability"].values.min()) <= float(result["probability"].values.max()) <= 1


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"padding": "left"}])
def test_scores_depend_on_neither_batches_nor_padding(golden_experiment: Experiment, changes: Any) -> None:
    assert_same_scores(patch_paths(golden_experiment), patch_paths(dataclasses.replace(golden_experiment, **changes)))


def test_one_job_a_batch_and_stage(golden_experiment: Experiment) -> None:
    effect = patch_paths(golden_experiment)["effect"]
    answers = 2
    assert golden_experiment.runner.cost.units == answers + -(-effect.size("prompt") // 21) * effect.size("stage")


def test_the_published_procedure_reads_every_head_elsewhere(golden_experiment: Experiment) -> None:
    """Where the counterfactual is read is drawn for each: other scores, in the last stage alone."""
    redrawn = dataclasses.replace(golden_experiment, quirks=frozenset({Quirk.REDRAWN_POSITION}))
    reader = Stage(name="struct_reader", role="prev_query_label", component="v", receivers="value_fetcher")
    stages = [*STAGES[:2], reader]
    default = patch_paths(golden_experiment, stages=stages)["score"]
    published = patch_paths(redrawn, stages=stages)["score"]
    assert default.names("stage") == published.names("stage") == tuple(stage.name for stage in stages)
    for stage in default.names("stage"):
        same = torch.allclose(default.at(stage=stage).values, published.at(stage=stage).values, atol=1e-6)
        assert same == (stage != reader.name)


def test_published_letters_are_of_the_whole_alphabet(golden_experiment: Experiment) -> None:
    published = dataclasses.replace(golden_experiment, quirks=frozenset({Quirk.QUESTION_LETTER}))
    pairs = begin_search(published, Settings(force=True, prompts="all")).pairs
    assert isinstance(published.task, GoldenTask)
    assert pairs == published.task.published_pairs() != published.task.pairs()
    assert begin_search(golden_experiment, Settings(force=True, prompts="all")).pairs == published.task.pairs()


def test_an_empty_group_leaves_the_later_ones_empty(
    golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "entitrack.methods.path_patching.method.select", lambda *given: dataclasses.replace(select(*given), heads=())
    )
    result = patch_paths(golden_experiment)
    assert circuit_of(result).size == 0
    assert set(result.facts["skipped"]) == {"pos_transmitter", "pos_detector", "struct_reader"}
    assert any("value_fetcher is empty: no head's score is below zero by the noise" in note for note in result.notes)
    assert "group pos_detector is empty: its receivers, pos_transmitter, are none" in result.notes


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (1, {"component": "x"}, r"stages\.1\.component: unknown component 'x'"),
        (0, {"role": "first"}, r"stages\.0\.role: the task has no role 'first'; available: last"),
        (1, {"name": "value_fetcher"}, r"stages\.1\.name: two stages"),
        (1, {"receivers": None}, r"stages\.1\.receivers: logits have no receivers"),
        (1, {"receivers": "later"}, r"stages\.1\.receivers: no earlier stage 'later'; available: value_fetcher"),
        (1, {"role": "query_label"}, r"stages\.1\.role: q is read where the receivers are, at 'last'"),
    ],
)
def test_stages_that_cannot_run_are_named(
    golden_experiment: Experiment, number: int, changes: Any, message: str
) -> None:
    stages = [stage.model_dump() for stage in STAGES]
    stages[number] |= changes
    with pytest.raises(UserError, match=message):
        patch_paths(golden_experiment, stages=stages)


def test_the_naive_way_agrees_and_a_wrong_anatomy_is_found_out(golden_experiment: Experiment) -> None:
    result = patch_paths(golden_experiment, verify=4)
    for stage in result.facts["stages"].values():
        assert stage["verified"]["difference"] < 1e-5
        assert stage["verified"]["heads"] == 4
    wrong = golden_experiment.base()
    anatomy = {**wrong.anatomy, "parallel": True}
    golden_experiment.family._loaded["base"] = dataclasses.replace(wrong, anatomy=anatomy)  # type: ignore[arg-type]
    try:
        with pytest.raises(UserError, match=r"method\.verify: stage 'value_fetcher' is .* off the naive way"):
            patch_paths(golden_experiment, verify=8)
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
    fast = patch_paths(small)
    slow = patch_paths(dataclasses.replace(small, family=family))
    assert slow.notes[1].startswith("warning: scored the naive way")
    assert not fast.notes[1].startswith("warning")
    assert_same_scores(fast, slow)
    with pytest.raises(UserError, match=r"method\.screen: first-order path patching needs layers"):
        patch_paths(dataclasses.replace(small, family=family), screen="attribution:0.5")
    with pytest.raises(UserError, match=r"method\.suffix: first order needs layers that are described in full; use"):
        patch_paths(dataclasses.replace(small, family=family), suffix="screened")


def test_stages_share_the_passes_of_their_prompts(golden_experiment: Experiment, monkeypatch: Any) -> None:
    """Each batch has its passes run once, unless there is no memory to keep them; the scores are the same."""
    from entitrack.engine import passes

    runs: list[int] = []
    run_prompts = passes.run_prompts

    def counted(*given: Any, **named: Any) -> Any:
        runs.append(1)
        return run_prompts(*given, **named)

    monkeypatch.setattr(passes, "run_prompts", counted)
    shared = patch_paths(dataclasses.replace(golden_experiment, batch_size=21))
    batches = len(runs)
    assert batches == -(-shared["effect"].size("prompt") // 21)
    alone = patch_paths(dataclasses.replace(golden_experiment, batch_size=21, gib=1e-6))
    reached = sum(stage["peak_bytes"] > 0 for stage in alone.facts["stages"].values())
    assert len(runs) - batches == batches * reached > batches
    assert_same_scores(shared, alone, atol=1e-6, rtol=1e-5)


def test_passes_that_do_not_fit_are_not_kept(golden_experiment: Experiment) -> None:
    """Of three batches, a budget for one and a half keeps the first."""
    from entitrack.engine.passes import passes_bytes

    on = dataclasses.replace(golden_experiment, batch_size=14)
    roomy = begin_search(on, Settings(force=True, prompts="all", stages=STAGES[:1]))
    score_stage(roomy, STAGES[0], ())
    sizes = [passes_bytes(passes) for passes in roomy.passes if passes]
    assert len(sizes) == 3
    on = dataclasses.replace(on, gib=1.5 * sizes[0] / 2**30)
    tight = begin_search(on, Settings(force=True, prompts="all", stages=STAGES[:1]))
    score_stage(tight, STAGES[0], ())
    assert [passes is None for passes in tight.passes] == [False, True, True]


def test_queries_are_received_by_heads_and_values_by_their_groups(golden_experiment: Experiment) -> None:
    """Where two heads share keys and values."""
    model = golden_experiment.base()
    grouped = dataclasses.replace(model, anatomy={**model.anatomy, "n_kv_heads": 3})  # type: ignore[arg-type]
    pairs, heads = golden_experiment.task.pairs()[:3], [(0, 0), (0, 1), (1, 5)]
    for component, expected in (("q", [[0, 0], [0, 1], [1, 5]]), ("v", [[0, 0], [1, 2]])):
        stage = Stage(name="s", role="last", component=component, receivers="r")  # type: ignore[arg-type]
        (batch,) = stage_batches(golden_experiment, grouped, pairs, stage, heads)
        assert batch["receivers"] == {"component": component, "heads": expected}


def test_screening_scores_its_share_exactly(golden_experiment: Experiment) -> None:
    stage = STAGES[0].name
    full, part = (patch_paths(golden_experiment, screen=screen) for screen in (None, "attribution:0.25"))
    scores, exact = (result["score"].at(stage=stage).values for result in (part, full))
    scored = ~scores.isnan()
    assert int(scored.sum()) == 6
    torch.testing.assert_close(scores[scored], exact[scored], atol=1e-5, rtol=1e-4)
    assert all(scored[layer, head] for layer, head in circuit_of(part).group(stage).heads)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"screen": "gradient:0.2"}, r"method\.screen: 'gradient:0.2' does not read attribution:SHARE"),
        ({"screen": "attribution:2"}, r"method\.screen"),
        ({"stages": []}, r"method\.stages: there are none"),
        ({"prompts": "some"}, r"method\.prompts: unknown prompts 'some'; available: right, all"),
        ({"choose": {"by": "taste"}}, r"method\.choose\.by: unknown by 'taste'; available: count, threshold, fdr"),
        ({"model": "nope"}, r"method\.model: family 'golden' has no member 'nope'"),
    ],
)
def test_settings_that_cannot_be_are_named(golden_experiment: Experiment, settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        patch_paths(golden_experiment, **settings)


def test_a_killed_run_resumes(golden_experiment: Experiment, tmp_path: Any) -> None:
    """What was finished before an interruption is not computed again, and the result is the same."""
    from entitrack.runtime.store import Store

    class Interrupted(Local):
        left = 1

        def run(self, model: Any, function: Any, inputs: Any, kept: Any = None) -> Any:
            if Interrupted.left == 0:
                raise KeyboardInterrupt
            Interrupted.left -= 1
            return super().run(model, function, inputs, kept)

    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        patch_paths(dataclasses.replace(golden_experiment, runner=Runner(Interrupted(), store)))
    resumed = dataclasses.replace(golden_experiment, runner=Runner(Local(), store))
    again = patch_paths(resumed)
    assert resumed.runner.cost.reused == 1
    assert_same_scores(again, patch_paths(golden_experiment))


def two_stages() -> Result:
    """Two stages that ran and one that did not, on two layers of two heads and three prompts."""
    stages = ("fetch", "bring")
    axes, labels = ("stage", "layer", "head"), {"stage": stages}
    scores = torch.tensor([[[-0.5, 0.25], [-0.125, torch.nan]], [[0.0, 0.0], [0.0625, 0.0]]])
    prompts = hand_made.prompts(3)
    return Result(
        method="path_patching",
        facts={
            "model": "base",
            "naive": False,
            "stages": {
                "fetch": {
                    "role": "last",
                    "heads": [(0, 0), (1, 0)],
                    "rerun": None,
                    "peak_bytes": 3 * 2**20,
                    "verified": {"difference": 2e-7, "heads": 5, "rough": None},
                },
                "bring": {"role": "query_label", "heads": [], "rerun": None, "peak_bytes": 0, "verified": None},
            },
            "skipped": {"read": "its receivers, bring, are none"},
        },
        measurements={
            "score": Measurement(scores, axes, labels),
            "standard_error": Measurement(scores.abs() / 4, axes, labels),
            "q_value": Measurement(scores.double().square(), axes, labels),
            "effect": Measurement(scores[..., None].repeat(1, 1, 1, 3), (*axes, PROMPT), labels, prompts),
            "noise": numbers({"fetch": 1e-7, "bring": 2e-3}, "stage"),
            "found_again": Measurement(torch.tensor([[[0.75, 0.0], [0.5, 0.0]], [[0.0] * 2] * 2]), axes, labels),
        },
    )


def test_tables_say_what_was_measured() -> None:
    result = hand_made.retold(two_stages())
    heads, stages = result.tables
    assert heads.title == "Circuit of base by path patching"
    assert heads.columns == ("group", "role", "rank", "layer.head", "score", "standard error", "q", "found again")
    assert heads.rows == (
        ("fetch", "last", 1, "0.0", -0.5, 0.125, "2.5e-01", "0.75"),
        ("fetch", "last", 2, "1.0", -0.125, 0.03125, "1.6e-02", "0.50"),
    )
    assert stages.columns == ("stage", "scored", "chosen", "noise", "found again", "largest piece", "from naive")
    assert stages.rows == (
        ("fetch", 3, 2, "1.0e-07", "0.62", "3 MiB", "2.0e-07 (5 heads)"),
        ("bring", 4, 0, "2.0e-03", "", "0 MiB", ""),
    )
    assert result.notes[0].endswith("over 3 prompts")
    assert result.notes[-2].startswith("group bring is empty: no head's score is below zero")
    assert result.notes[-1] == "group read is empty: its receivers, bring, are none"
    assert len(result.notes) == 7


def test_the_figure_draws_the_scores_and_rings_the_group() -> None:
    result = hand_made.retold(two_stages())
    drawing, bounds = hand_made.drawing(result), result["score"].values.nan_to_num().abs()
    for panel, stage in zip(hand_made.maps(result), ("fetch", "bring"), strict=True):
        torch.testing.assert_close(torch.tensor(panel.values), result["score"].at(stage=stage).values, equal_nan=True)
        assert [list(place) for place in panel.ringed] == result.facts["stages"][stage]["heads"]
        assert panel.title == f"{stage}\nat {result.facts['stages'][stage]['role'].replace('_', ' ')}"
        assert panel.told[0][0] == "not scored" or "standard error" in panel.told[0][0]
        assert (panel.columns.label, panel.rows.label) == ("head", "layer")
    assert drawing.scale is not None
    assert (drawing.scale.low, drawing.scale.high) == (-float(bounds.max()), float(bounds.max()))
    assert (drawing.scale.worse, drawing.scale.root) == ("low", True)


def test_colours_of_scores_that_are_none_are_those_of_nothing() -> None:
    made = two_stages()
    scores = made["score"]
    none = Measurement(torch.zeros_like(scores.values), scores.axes, scores.labels)
    result = hand_made.retold(dataclasses.replace(made, measurements={**made.measurements, "score": none}))
    scale = hand_made.drawing(result).scale
    assert scale is not None
    assert (scale.low, scale.high) == (-1, 1)


def test_the_claim_counts_a_head_that_two_groups_have_at_one_role_once() -> None:
    made = two_stages()
    stages = {"fetch": {"role": "last", "heads": [[0, 0], [0, 1]]}, "bring": {"role": "last", "heads": [[0, 0]]}}
    told = {name: {**made.facts["stages"][name], **about} for name, about in stages.items()}
    result = dataclasses.replace(made, facts={**made.facts, "stages": told})
    assert result.claim().startswith("2 heads at roles, in 2 groups, bring the answer of ")
