"""A loaded model, and what is known of it without its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from entitrack.engine.anatomy import Anatomy, find, layer_at
from entitrack.models.hashing import record_digest
from entitrack.models.identity import Identity

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

NORMS = ("pre_attention_norm", "post_attention_norm", "pre_mlp_norm", "post_mlp_norm")


@dataclass(frozen=True)
class Outline:
    """What stays of a model when its weights are let go.

    Attributes:
        config: Its configuration.
        tokenizer: Its tokenizer.
        norms: The kind of every norm of a layer, and of those of q and k, in words.
        device: Where prompts go.
        devices: Where its weights are, each device once.
    """

    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    norms: str
    device: torch.device
    devices: tuple[torch.device, ...]

    @classmethod
    def of(cls, envoy: Any, anatomy: Anatomy) -> Outline:
        """The outline of an nnsight model."""
        module = envoy._module
        devices = tuple(dict.fromkeys(parameter.device for parameter in module.parameters()))
        return cls(module.config, envoy.tokenizer, _norms(module, anatomy), envoy.device, devices)


@dataclass(frozen=True)
class Model:
    """A model of a family.

    Attributes:
        name: Its name in the family.
        access: Gives the nnsight model; loads its weights again where they were let go.
        outline: What of it needs no weights.
        anatomy: How it is built.
        identity: What its results depend on; the anatomy that it names is always this one.
    """

    name: str
    access: Callable[[], Any] = field(repr=False)
    outline: Outline = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    identity: Identity

    def __post_init__(self) -> None:
        """Name the anatomy in the identity, however the model was made: two anatomies never share a result."""
        object.__setattr__(self, "identity", replace(self.identity, anatomy=record_digest(self.anatomy)))

    @classmethod
    def of(cls, name: str, envoy: Any, anatomy: Anatomy, identity: Identity) -> Model:
        """A model that is there already, and stays."""
        return cls(name, lambda: envoy, Outline.of(envoy, anatomy), anatomy, identity)

    @property
    def envoy(self) -> Any:
        """The nnsight model, with its weights; whoever keeps it keeps them from being let go."""
        return self.access()

    @property
    def config(self) -> PretrainedConfig:
        """Its configuration."""
        return self.outline.config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.outline.tokenizer


def _norms(module: Any, anatomy: Anatomy) -> str:
    """The kind of every norm of a layer, and of those of q and k."""
    layer = layer_at(module, anatomy, 0)
    paths = {name: anatomy[name] for name in NORMS}  # type: ignore[literal-required]
    attention = anatomy["o_proj"].rpartition(".")[0]
    paths |= {name: f"{attention}.{name}" for name in ("q_norm", "k_norm")}
    kinds = {name: _norm_kind(layer, path) for name, path in paths.items()}
    return ", ".join(f"{name} {kind}" for name, kind in kinds.items() if kind) or "none"


def _norm_kind(layer: Any, path: str) -> str:
    """`RMSNorm` or `LayerNorm`, whatever the architecture calls it; empty where there is none."""
    try:
        name = type(find(layer, path)).__name__ if path else ""
    except AttributeError:
        return ""
    return next((kind for kind in ("RMSNorm", "LayerNorm") if name.endswith(kind)), name)
