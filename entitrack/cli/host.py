"""Hydra within a program that may use Hydra itself: what it keeps for the whole process is the host's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase


@contextmanager
def host_left_alone() -> Iterator[None]:
    """Hydra's state of the process is afterwards as it was before, whatever is composed meanwhile."""
    opened, config, version = GlobalHydra.instance(), HydraConfig.instance(), VersionBase.instance()
    before = opened.hydra, config.cfg, version.version_base
    try:
        yield
    finally:
        opened.hydra, config.cfg, version.version_base = before
