"""What would cross a sandbox's socket is counted on a session that runs here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from entitrack.engine.patching import answer
from entitrack.models.model import Model
from entitrack.runtime.backends import Cost, Local, Runner, dry_run
from entitrack.runtime.forms import SANDBOX
from entitrack.runtime.ndif.socket import ARCHIVE, counted

TOKENS, LAYER = 3, 1


@pytest.fixture
def cost() -> Iterator[Cost]:
    found = Cost()
    with counted(found):
        yield found


def own_pass(model: Model, read: bool = False, write: bool = False) -> int:
    """One pass over a few tokens; gives the bytes of its output."""
    envoy = model.envoy
    with torch.no_grad():
        with envoy.trace({"input_ids": torch.zeros(1, TOKENS, dtype=torch.long)}, use_cache=False):
            mlp = envoy.model.layers[LAYER].mlp
            if read:
                added = mlp.output
            if write:
                whole = added if read else torch.zeros(1, TOKENS, model.outline.config.hidden_size)
                mlp.output = whole[:, :1].expand_as(whole)
    return 4 * TOKENS * int(model.outline.config.vocab_size)


@pytest.mark.parametrize(
    ("what", "messages", "values"),
    [((), 4, 0), (("read",), 8, 2 * TOKENS), (("write",), 6, TOKENS), (("read", "write"), 10, 3 * TOKENS)],
)
def test_what_is_read_crosses_twice_and_what_is_written_once(
    golden_model: Model, cost: Cost, what: tuple[str, ...], messages: int, values: int
) -> None:
    """A tensor counts with what it is a view of."""
    output = own_pass(golden_model, **dict.fromkeys(what, True))
    assert cost.socket_messages == messages
    stream = 4 * golden_model.outline.config.hidden_size
    assert cost.socket_bytes == output + values * stream + messages * ARCHIVE


def test_a_module_that_is_called_takes_two_messages(golden_model: Model, cost: Cost) -> None:
    envoy = golden_model.envoy
    hidden = torch.zeros(1, TOKENS, golden_model.outline.config.hidden_size)
    with torch.no_grad():
        with envoy.trace({"input_ids": torch.zeros(1, TOKENS, dtype=torch.long)}, use_cache=False):
            envoy.model.layers[LAYER].mlp(hidden)
    output = 4 * TOKENS * int(golden_model.outline.config.vocab_size)
    assert cost.socket_messages == 6
    assert cost.socket_bytes == output + 2 * 4 * hidden.numel() + 6 * ARCHIVE


def test_nothing_is_counted_afterwards(golden_model: Model) -> None:
    found = Cost()
    with counted(found):
        pass
    before = found.socket_messages, found.socket_bytes
    own_pass(golden_model, read=True)
    assert (found.socket_messages, found.socket_bytes) == before


def test_a_dry_run_adds_the_session_and_what_it_saves(golden_model: Model) -> None:
    tokens = torch.zeros(2, TOKENS, dtype=torch.long)
    prompts = {"tokens": tokens, "mask": tokens + 1, "last": tokens[:, 0] + TOKENS - 1, "answers": tokens[:, 0]}
    crossed = Cost()
    with counted(crossed):
        Runner(Local(form=SANDBOX)).run(golden_model, answer, {"prompts": prompts})
    dry, direct = Runner(dry_run(SANDBOX)), Runner(dry_run())
    for runner in (dry, direct):
        runner.run(golden_model, answer, {"prompts": prompts})
    assert dry.cost.socket_messages == crossed.socket_messages > 0
    assert dry.cost.socket_bytes == crossed.socket_bytes + dry.cost.wire_up + dry.cost.wire_down
    assert (direct.cost.socket_messages, direct.cost.socket_bytes) == (0, 0)
