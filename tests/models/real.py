"""What tests on real weights share: the two models that come in packages, loaded once, or a skip that says why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import pytest

from entitrack.core.errors import UserError
from entitrack.models.anatomy import Head
from entitrack.models.family import Family, Model
from tests.models.test_families import family as settings_of


@dataclass(frozen=True)
class Real:
    """What is known of a real model.

    Attributes:
        family: Its family.
        shape: Layers, heads, KV heads and d_head.
        windows: Attention windows of its layers; 0 where there is none.
        length: The most tokens that it was built for.
        begins: The token that it puts first; empty for none.
        receiver: A head that others act through.
        senders: Heads that act, of layers before that.
    """

    family: str
    shape: tuple[int, int, int, int]
    windows: frozenset[int]
    length: int
    begins: str
    receiver: Head
    senders: tuple[Head, ...]


REAL = (
    Real("smollm2", (30, 9, 3, 64), frozenset({0}), 8192, "", (23, 0), ((20, 1), (17, 4), (5, 6))),
    Real("gemma3-270m", (18, 4, 1, 256), frozenset({0, 512}), 32768, "<bos>", (11, 2), ((10, 0), (9, 3), (5, 1))),
)


@cache
def loaded(name: str) -> Family:
    """A family, with its base loaded."""
    settings = settings_of(name)
    family = Family(name, settings.base, settings.members, device="cpu")
    try:
        family.load(family.base)
    except UserError as error:
        if "not installed" not in str(error) or os.environ.get("ENTITRACK_REAL"):
            raise
        pytest.skip(str(error))
    return family


def base(real: Real) -> Model:
    """Its base."""
    family = loaded(real.family)
    return family.load(family.base)
