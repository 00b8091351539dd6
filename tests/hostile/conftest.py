"""A client and a server in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from entitrack.models.family import Model
from tests.hostile.replies import Client
from tests.remote.harness import zoo


@pytest.fixture(scope="module")
def model() -> Model:
    """A model without weights."""
    return zoo(weights=False).load("llama")


@pytest.fixture
def client(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    tokens = torch.ones(2, 5, dtype=torch.long)
    last = torch.full((2,), 4)
    prompts = {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": torch.zeros(2).long()}
    return Client.make(model, {"prompts": prompts}, tmp_path / "store")
