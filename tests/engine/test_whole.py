"""The sandbox's form: held to the naive twins that the direct form is held to, and to the direct form."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.engine.anatomy import Anatomy
from entitrack.engine.patching import answer
from entitrack.methods import method_names, run_method, settings_of
from entitrack.methods.path_patching.settings import Settings
from entitrack.models.family import Family
from entitrack.models.model import Model
from entitrack.runtime.backends import Local, dry_run
from entitrack.runtime.forms import SANDBOX, WHOLE, anatomy_in, in_form
from entitrack.runtime.promises import promise_of
from tests.engine import (
    test_ablation,
    test_architectures,
    test_component_ablation,
    test_components,
    test_dcm,
    test_knockout,
    test_patching,
    test_path_patching,
    test_transplants,
)
from tests.remote import matrix

TOLERANCE = 1e-5
"""Of probabilities and effects."""
LOGIT_TOLERANCE = 3e-5
"""Of logits, which are of the size of 20: some units in the last place."""

Golden = dict[str, Tensor]


@pytest.fixture
def sandboxed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whatever runs locally takes the sandbox's form; gives the interventions that took another one."""
    direct, taken = Local.run, []

    def run(self: Local, model: Model, function: Any, inputs: dict[str, Any], kept: Any = None) -> dict[str, Any]:
        if getattr(function, "takes_gradients", False):
            return direct(self, model, function, inputs, None)
        whole = in_form(SANDBOX, function)
        if whole is not function:
            taken.append(function)
        return direct(self, model, whole, {**inputs, "anatomy": anatomy_in(SANDBOX, inputs["anatomy"])}, None)

    monkeypatch.setattr(Local, "run", run)
    return taken


@pytest.mark.parametrize("architecture", test_ablation.ARCHITECTURE_NAMES)
def test_circuits_and_knockouts_are_naive(architecture: str, sandboxed: list[Any]) -> None:
    test_ablation.test_fast_is_naive(architecture)
    test_knockout.test_fast_is_naive(architecture)
    assert len(set(sandboxed)) == 2


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("architecture", test_ablation.ARCHITECTURE_NAMES)
def test_paths_and_components_are_naive(architecture: str, padding: str, sandboxed: list[Any]) -> None:
    for component in ("logits", "q", "k", "v"):
        test_architectures.test_fast_is_naive(architecture, component, padding)
    for component in ("attn_out", "resid_mid", "mlp_out"):
        test_components.test_components_are_as_hooks_have_them(architecture, component, padding)
    assert len(set(sandboxed)) == 1


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_fixed_mask_patches_the_heads_that_it_drops(padding: str, low: bool, sandboxed: list[Any]) -> None:
    test_dcm.test_a_fixed_mask_patches_the_heads_that_it_drops(padding, low)
    assert sandboxed


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "phi3"])
def test_a_models_own_z_changes_nothing(architecture: str, sandboxed: list[Any]) -> None:
    test_transplants.test_its_own_z_changes_nothing_in_any_architecture(architecture)
    assert sandboxed


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox"])
def test_live_positions_are_naive(architecture: str, sandboxed: list[Any]) -> None:
    test_ablation.test_live_positions_are_naive(architecture)
    assert sandboxed


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox"])
def test_components_are_ablated_as_hooks_do(architecture: str, ablation: str, sandboxed: list[Any]) -> None:
    test_component_ablation.test_every_site_is_ablated_as_hooks_do(architecture, ablation, Local())


@pytest.mark.parametrize("backend", [Local(), dry_run()], ids=["local", "dry_run"])
def test_golden_figures_are_met(
    backend: Local,
    sandboxed: list[Any],
    golden_model: Model,
    golden_donor: Model,
    golden: Golden,
    golden_json: dict[str, Any],
) -> None:
    test_ablation.test_circuits_are_golden(golden_model, golden, golden_json, backend)
    test_knockout.test_fast_is_naive_on_the_golden_model(golden_model, golden, backend)
    test_ablation.test_the_model_without_heads_is_golden(golden_model, golden, golden_json)
    test_transplants.test_a_set_is_answered_as_naively(golden, golden_model, golden_donor)
    assert len(set(sandboxed)) == 3


@pytest.mark.parametrize("stage", test_path_patching.STAGES)
def test_path_patching_is_golden(
    stage: str, sandboxed: list[Any], golden: Golden, golden_json: dict[str, Any], golden_model: Model
) -> None:
    test_path_patching.test_scores_are_golden(golden_model, golden, golden_json, stage)
    test_path_patching.test_null_patch_scores_zero(golden_model, golden, golden_json, stage)
    assert sandboxed


@pytest.mark.parametrize("components", ["q", "k", "v", "qkv"])
def test_transplanted_inputs_are_golden(
    components: str,
    sandboxed: list[Any],
    golden: Golden,
    golden_model: Model,
    golden_donor: Model,
    golden_circuit: Circuit,
) -> None:
    test_patching.test_transplanted_inputs_give_golden_logits(
        golden, golden_model, golden_donor, golden_circuit, components
    )


@pytest.mark.parametrize("method", [name for name in method_names() if not settings_of(name).needs_gradients])
def test_a_method_gives_what_it_gives_directly(method: str, tiny_family: Family) -> None:
    direct, whole = (
        matrix.run(method, matrix.tiny_experiment(tiny_family, Local(form=form))) for form in ("direct", SANDBOX)
    )
    assert direct.results.keys() == whole.results.keys()
    probabilities, logits = matrix.by_kind(direct, whole)
    assert probabilities <= TOLERANCE
    assert logits <= LOGIT_TOLERANCE


@pytest.mark.parametrize("method", [name for name in method_names() if settings_of(name).needs_gradients])
def test_what_takes_gradients_says_so_before_the_first_session(method: str, tiny_family: Family) -> None:
    on = matrix.tiny_experiment(tiny_family, Local(form=SANDBOX))
    with pytest.raises(UserError, match=r"^backend.form: the method takes gradients.* trusted"):
        matrix.run(method, on)


def test_screening_takes_gradients_too(tiny_family: Family) -> None:
    on = matrix.tiny_experiment(tiny_family, Local(form=SANDBOX))
    settings = Settings(screen="attribution:0.5")
    with pytest.raises(UserError, match=r"^backend.form: method.screen takes gradients"):
        run_method("path_patching", on, settings)


def test_another_form_promises_the_same() -> None:
    for direct in WHOLE:
        assert promise_of(direct)


def test_forms_do_not_share_what_is_kept(golden_model: Model) -> None:
    places = {backend.place(golden_model) for backend in (Local(), Local(form=SANDBOX), dry_run(SANDBOX))}
    assert len(places) == 3


def test_nothing_is_done_that_a_sandbox_lacks(golden_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """An anatomy that is elsewhere is told apart from one that is here by nothing but its entry."""
    anatomy: Anatomy = anatomy_in(SANDBOX, golden_model.anatomy)
    assert {**golden_model.anatomy, "elsewhere": True} == anatomy
    assert in_form(SANDBOX, answer) is answer
