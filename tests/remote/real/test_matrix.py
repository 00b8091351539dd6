"""A method gives on NDIF what it gives here: the same where a key is trusted, the same but for rounding where not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from entitrack.methods import method_names, settings_of
from entitrack.models.family import Family
from tests.remote.harness import RecordingRunner
from tests.remote.real.measuring import UNTRUSTED, Measured, measure, reference
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
    method: str, real: Real, bare_tiny: Family, here: Callable[[str], Reference]
) -> None:
    results, expected = here(method)
    there = measure(method, results, bare_tiny, real.backend(form=UNTRUSTED), real)
    assert there.refused == ""
    assert there.units == expected.units
    assert there.probabilities <= TOLERANCE
    assert there.logits <= LOGIT_TOLERANCE
    assert (there.messages > 0) == (there.units > 0)


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
