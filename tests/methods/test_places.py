"""Every place of a template that stands once is a role: of stages, of circuits, in every phrasing."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from entitrack.core.circuits import Circuit, Group
from entitrack.core.result import Result
from entitrack.methods import run_method, settings_of
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.method import begin_search
from entitrack.methods.path_patching.scoring import score_stage
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.boxes.phrasings import PHRASINGS
from entitrack.tasks.encoding import encode, template_positions
from entitrack.tasks.protocol import role_aliases, role_names
from tests.conftest import Launch

ALIASES = {"queried object": "correct_object", "queried label": "prev_query_label", "question label": "query_label"}
LAST_WORD = dict.fromkeys(("object_first", "label_first", "sentences"), "question the") | {"question": "question The"}
everywhere = pytest.mark.parametrize("phrasing", PHRASINGS)


@pytest.fixture(scope="module")
def family(tiny_family: Family, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Two of the embedded family that know the words of every phrasing, those of one as random ones."""
    folder, tokenizer = tmp_path_factory.mktemp("words"), tiny_family.tokenizer
    torch.manual_seed(0)
    for name in ("llama", "float"):
        trained = tiny_family.load(name).envoy._module
        model = LlamaForCausalLM(deepcopy(trained.config))
        model.load_state_dict(trained.state_dict())
        model.resize_token_embeddings(len(tokenizer) + 3, mean_resizing=False)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        _add_words(folder / name / "tokenizer.json", len(tokenizer), ["Question", "What", "Answer"])
    members = {name: Checkpoint(str(folder / name)) for name in ("llama", "float")}
    return Family("tiny", "llama", members, device="cpu")


def _add_words(file: Path, first: int, words: list[str]) -> None:
    kept = json.loads(file.read_text())
    kept["model"]["vocab"] |= {word: first + number for number, word in enumerate(words)}
    file.write_text(json.dumps(kept))


def experiment(family: Family, phrasing: str, **settings: Any) -> Experiment:
    task = Boxes(boxes=3, phrasing=phrasing, **{"count": 6, **settings})
    return Experiment(family, task, Runner(Local()), "float", batch_size=6)


def run(method: str, on: Experiment, **settings: Any) -> Result:
    return run_method(method, on, settings_of(method)(**settings))


def roles_within(on: Experiment) -> list[str]:
    """The places that stand once, in the order of their tokens; the last is the last token."""
    batch = encode(on.task.prompts(), on.family.tokenizer)
    positions = {place: int(at[0]) for place, at in batch.positions.items() if " " in place}
    return sorted(positions, key=lambda place: positions[place])


@everywhere
@pytest.mark.parametrize("examples", [0, 1])
def test_places_that_stand_once_are_roles_and_some_are_the_task_s_own(
    phrasing: str, examples: int, family: Family
) -> None:
    on = experiment(family, phrasing, examples=examples)
    prompts = on.task.prompts()
    tokens = template_positions(prompts, family.tokenizer)  # type: ignore[arg-type]
    once = {place for place, spans in prompts[0].template.items() if len(spans) == 1}  # type: ignore[attr-defined]
    assert once <= set(role_names(on.task))
    assert {"queried the", "queried end", "question Box"} <= once
    batch = encode(prompts, family.tokenizer)
    for place in once:
        assert torch.equal(batch.positions[place][:, None], tokens[place])
    aliases = role_aliases(on.task)
    assert aliases == {**ALIASES, LAST_WORD[phrasing]: "last"}
    for place, role in aliases.items():
        assert torch.equal(batch.positions[place], batch.positions[role])


@pytest.mark.slow
@everywhere
def test_stages_of_path_patching_are_at_any_place(phrasing: str, family: Family) -> None:
    """A stage at each, against the naive way; one at another name of a role is the one at the role."""
    on, receivers = experiment(family, phrasing), [(2, 1), (3, 0)]
    *before, last = roles_within(on)
    stages = [{"name": "first", "role": last}, {"name": "asker", "role": last, "component": "q", "receivers": "first"}]
    stages += [{"name": f"at {n}", "role": at, "component": "v", "receivers": "first"} for n, at in enumerate(before)]
    names = [role_aliases(on.task).get(at, at) for at in (last, last, *before)]
    effects = []
    for roles in ([last, last, *before], names):
        renamed = [{**stage, "role": role} for stage, role in zip(stages, roles, strict=True)]
        settings = settings_of("path_patching")(**{"force": True, "prompts": "all", "verify": 2, "stages": renamed})
        search = begin_search(on, settings)  # type: ignore[arg-type]
        assert [stage.role for stage in search.stages] == names
        scored = [score_stage(search, stage, receivers if stage.receivers else []) for stage in search.stages]
        assert all(one.verified and one.verified.difference < 1e-3 for one in scored)
        effects.append(torch.stack([one.effects for one in scored]))
    assert torch.equal(*effects)
    assert bool(effects[0].isfinite().all())
    assert int((effects[0] != 0).flatten(1).any(1).sum()) > 2, "not at the last token alone"


@everywhere
def test_circuits_have_groups_at_any_place(phrasing: str, family: Family, tmp_path: Path) -> None:
    """Faithfulness and CMAP run such a circuit as they do one with the task's own names."""
    on = experiment(family, phrasing)
    places = roles_within(on)
    results = []
    for names in ({}, role_aliases(on.task)):
        groups = (Group(f"at {n}", names.get(at, at), ((0, n % 4), (1, n % 6))) for n, at in enumerate(places))
        path = tmp_path / f"{len(names)}.json"
        Circuit(tuple(groups)).write(path)
        with_circuit = replace(on, circuit_name=str(path), circuits={})
        faithful = run("faithfulness", with_circuit, mean_count=6, random_circuits=2, ablations=["mean"])
        results.append((faithful, run("cmap", with_circuit, controls=2)))
        assert set(faithful["random.heads"].names("role")) == {role_aliases(on.task).get(at, at) for at in places}
    for one, other in zip(*results, strict=True):
        assert one.arrays.keys() == other.arrays.keys()
        assert all(torch.equal(values, other.arrays[name]) for name, values in one.arrays.items())


def test_what_positions_prints_can_be_pasted(launch: Launch, tmp_path: Path) -> None:
    few = ("task.count=21", "task.boxes=3", "tracking=disabled", "store=null", "model.device=cpu", "method.force=true")
    words = ("method=positions", "method.mean_count=14", "method.most=4", "method.enough=2", "output_dir=grown")
    assert launch(*words, *few) == 0
    (record,) = Path("grown").rglob("result.json")
    told = json.loads(record.read_text())
    (note,) = (note for note in told["notes"] if note.startswith("live places that stages"))
    roles = note.partition(": ")[2].split(", ")
    assert roles[0] == "question the"
    stages = ["{name: s0, role: question the}"]
    stages += [f"{{name: s{n}, role: {at}, component: v, receivers: s0}}" for n, at in enumerate(roles[1:], start=1)]
    pasted = f"method.stages=[{', '.join(stages)}]"
    assert launch("method=path_patching", pasted, "method.prompts=all", "output_dir=found", *few) == 0
    (circuit,) = Path("found").rglob("circuit.json")
    judged = ("method.models=[llama]", "method.mean_count=14", "method.random_circuits=2", "output_dir=judged")
    others = [word for word in few if word != "method.force=true"]
    assert launch("method=faithfulness", f"circuit={circuit}", *judged, *others) == 0
