"""A method gives on NDIF what it gives here: the same where a key is trusted, the same but for rounding where not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from entitrack.methods import method_names, settings_of
from entitrack.models.family import Family
from entitrack.runtime.backends import dry_run
from tests.remote.harness import RecordingRunner
from tests.remote.real.measuring import UNTRUSTED, Measured, measure, reference, run
from tests.remote.real.served import Real

Reference = tuple[RecordingRunner, Measured]

TOLERANCE = 1e-5
"""Of probabilities and effects."""
LOGIT_TOLERANCE = 3e-5
"""Of logits, which are of the size of 20."""


OF_OTHERS = ("circuit_curve", "cmap_matrix", "cmap_order", "stability", "transfer")
"""Methods of many jobs with interventions that others have too; a job in a sandbox takes seconds."""

NOT_TRUSTED = [name for name in method_names() if not settings_of(name).needs_gradients and name not in OF_OTHERS]


@pytest.fixture(scope="module")
def here(tiny_family: Family) -> Callable[[str], Reference]:
    """What a method gives here; each is run once."""
    return cache(lambda method: reference(method, tiny_family))


@pytest.fixture(scope="module")
def there(real: Real, bare_tiny: Family, here: Callable[[str], Reference]) -> Callable[[str], Measured]:
    """What a method gives there by a key that is not trusted; each is run once."""
    backend = real.backend(form=UNTRUSTED)
    return cache(lambda method: measure(method, here(method)[0], bare_tiny, backend, real))


@pytest.mark.parametrize("method", method_names())
def test_a_trusted_key_gives_what_is_found_here(
    method: str, real: Real, bare_tiny: Family, here: Callable[[str], Reference]
) -> None:
    results, expected = here(method)
    there = measure(method, results, bare_tiny, real.backend(), real)
    assert there.refused == ""
    assert there.units == expected.units
    assert (there.probabilities, there.logits) == (0, 0)
    assert there.messages == 0


@pytest.mark.parametrize("method", NOT_TRUSTED)
def test_any_key_gives_it_but_for_rounding(
    method: str, here: Callable[[str], Reference], there: Callable[[str], Measured]
) -> None:
    found, expected = there(method), here(method)[1]
    assert found.refused == ""
    assert found.units == expected.units
    assert found.probabilities <= TOLERANCE
    assert found.logits <= LOGIT_TOLERANCE
    assert (found.messages > 0) == (found.units > 0)


@pytest.mark.parametrize("method", ["evaluate", "ablation", "cmap", "path_patching"])
def test_a_dry_run_tells_what_crosses_the_sandbox_s_socket(
    method: str, tiny_family: Family, there: Callable[[str], Measured]
) -> None:
    found, told = there(method), run(method, tiny_family, dry_run(UNTRUSTED)).cost
    assert told.socket_messages == found.messages
    assert told.socket_bytes == pytest.approx(found.bytes, rel=0.1)


@pytest.mark.parametrize("method", [name for name in method_names() if settings_of(name).needs_gradients])
def test_what_takes_gradients_is_refused_before_the_first_job(
    method: str, real: Real, bare_tiny: Family, here: Callable[[str], Reference]
) -> None:
    before = len(real.counts())
    results, _ = here(method)
    said = measure(method, results, bare_tiny, real.backend(form=UNTRUSTED), real).refused
    assert "takes gradients, and what is read in a sandbox has none" in said
    assert "a key that is tagged as trusted" in said
    assert len(real.counts()) == before
