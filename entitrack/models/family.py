"""A base model and its donors: what they are, and loading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from entitrack.core.errors import UserError
from entitrack.core.notices import under_way
from entitrack.engine.anatomy import Anatomy
from entitrack.models.anatomy import Architecture, check_anatomy, describe
from entitrack.models.checkpoint import ZOO, Checkpoint
from entitrack.models.devices import check_quantisation, pick_device, pick_dtype, pick_placement
from entitrack.models.hashing import file_state, user_cache
from entitrack.models.held import Held, tensor_bytes
from entitrack.models.identity import (
    Identity,
    adapters_identity,
    file_states,
    gguf_identity,
    quantisation_identity,
    tokenizer_identity,
    weights_identity,
)
from entitrack.models.loading import (
    Manner,
    check_attention,
    check_kind,
    coming_bytes,
    load_base,
    load_config,
    load_structure,
    wrap,
)
from entitrack.models.model import Model, Outline
from entitrack.models.settings import FamilySettings
from entitrack.models.sources import Source, explained

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

__all__ = ["ZOO", "Checkpoint", "Family", "Model", "pick_device", "pick_dtype"]


@dataclass
class Family:
    """A base and its donors. Members are loaded when they are first asked for, and few are held at once.

    Attributes:
        name: See `FamilySettings`, also for `base`, `members`, `dtype`, `device`, `attention` and `held`.
        architecture: How the models are built, where the user says so.
        dispatch: Load weights; without them models have structure and tokenizer only, enough to run elsewhere.
    """

    name: str
    base: str
    members: Mapping[str, Checkpoint]
    dtype: str = "float32"
    device: str | dict[str, str] = "auto"
    attention: str = "sdpa"
    dispatch: bool = True
    architecture: Architecture | None = None
    held: int | None = None
    _loaded: dict[str, Model] = field(default_factory=dict, repr=False)
    _memory: Held = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what `FamilySettings` refuses."""
        self._settings()
        self._memory = Held(self.held)

    def checkpoint(self, name: str, place: str) -> Checkpoint:
        """Where the weights of a member are.

        Raises:
            UserError: There is no such member, or this machine cannot hold it as is asked; `place` is the config key
                that named it.
        """
        checkpoint = self._settings().member(name, place)
        if self.dispatch:
            self._placement(name, checkpoint)
        return checkpoint

    def _settings(self) -> FamilySettings:
        names = ("name", "base", "dtype", "device", "attention", "held")
        return FamilySettings(**{name: getattr(self, name) for name in names}, members=dict(self.members))

    def _placement(self, name: str, checkpoint: Checkpoint) -> tuple[str | dict[str, str], str]:
        """Where a member's weights go, and the config key that says so."""
        place = f"model.members.{name}"
        given, key = (self.device, "model.device")
        if checkpoint.device is not None:
            given, key = checkpoint.device, f"{place}.device"
        placement = pick_placement(given, key)
        check_quantisation(checkpoint.quantisation, placement, f"{place}.quantisation")
        return placement, key

    def load(self, name: str, place: str = "donor") -> Model:
        """The member `name`.

        Its weights are in memory when it is first loaded, and whenever its `envoy` is asked for; between, they may be
        let go for those of others, see `held`.

        Raises:
            UserError: There is no such member, or its weights cannot be read.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self.checkpoint(name, place))
        return self._loaded[name]

    def release(self) -> None:
        """Let go of all weights; members that are used again are loaded again."""
        self._memory.release()

    def anatomy(self, name: str, place: str = "donor") -> Anatomy:
        """How the member `name` is built, from its configuration alone: no weights are loaded for it.

        Raises:
            UserError: There is no such member, or its configuration cannot be read.
        """
        if name in self._loaded:
            return self._loaded[name].anatomy
        return self._described(Source.of(name, self._settings().member(name, place)))[1]

    def _described(self, source: Source) -> tuple[Any, Anatomy]:
        """A member's configuration, and the anatomy that it tells of."""
        config = load_config(source)
        check_kind(config, source)
        check_attention(config, self.attention)
        with explained(source.place, f"{source.path!r}, its configuration"):
            return config, describe(config, self.architecture)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer, which every member is used with."""
        return self.load(self.base).tokenizer

    @property
    def loaded(self) -> Mapping[str, Model]:
        """The members loaded so far, by name."""
        return MappingProxyType(self._loaded)

    def _envoy(self, name: str) -> Any:
        """The nnsight model of a member that was loaded, with its weights."""
        envoy = self._memory.member(name)
        if envoy is None:
            again = self._load(name, self.checkpoint(name, "model.members"))
            if again.identity != self._loaded[name].identity:
                problem = f"{name!r} is another model than when this run began: its files changed"
                raise UserError(f"model.members.{name}", problem, fix="give the command again")
            envoy = self._memory.member(name)
        return envoy

    def _load(self, name: str, checkpoint: Checkpoint) -> Model:
        source = Source.of(name, checkpoint)
        before = _states(source)
        config, anatomy = self._described(source)
        envoy = self._built(name, source, config, checkpoint)
        with explained(source.place, repr(source.path)):
            check_anatomy(envoy._module, anatomy)
            identity = self._identify(source, checkpoint, envoy)
        if _states(source) != before:
            fix = "give the command again once it is written"
            raise UserError(source.place, f"{source.path!r} or its adapter changed while it was loaded", fix=fix)
        if checkpoint.hosted:
            envoy.repo_id = checkpoint.hosted
        outline = Outline.of(envoy, anatomy)
        access = partial(self._envoy, name) if self.dispatch else lambda: envoy
        return Model(name, access, outline, anatomy, identity)

    def _built(self, name: str, source: Source, config: Any, checkpoint: Checkpoint) -> Any:
        """The nnsight model of a member; its weights are loaded if no other member has brought them."""
        dtype = pick_dtype(self.dtype)
        if not self.dispatch:
            return load_structure(source, dtype, self.attention)
        placement, placed_by = self._placement(name, checkpoint)
        placed = tuple(placement.items()) if isinstance(placement, dict) else placement
        key = (source.path, source.revision, source.quantisation, placed, source.merged)
        manner = Manner(dtype, self.attention, placement, placed_by)
        coming = coming_bytes(source, dtype)

        def load() -> nn.Module:
            with under_way(f"loading {name}: {checkpoint.path}") as end:
                begun = perf_counter()
                module = load_base(source, config, manner)
                end(f"{tensor_bytes(module) / 1e9:.2f} GB in {perf_counter() - begun:.1f} s")
                return module

        base = self._memory.base(key, coming, load)
        base.members[name] = wrap(source, base.module, dtype)
        return base.members[name]

    def _identify(self, source: Source, checkpoint: Checkpoint, envoy: Any) -> Identity:
        """What the loaded model goes by; without weights, its name stands for them."""
        cache, place, config = user_cache(), source.place, envoy._module.config
        revision = getattr(config, "_commit_hash", None) or source.revision
        weights = source.path if self.dispatch else checkpoint.hosted or source.path
        by_bytes = gguf_identity(source.gguf, cache, place) if source.gguf else None
        return Identity(
            by_bytes or weights_identity(weights, revision, self.dispatch, cache, place),
            adapters_identity(source.adapters, self.dispatch, cache),
            tokenizer_identity(envoy.tokenizer, source.path, revision, cache, place, by_bytes),
            self.dtype,
            str(config._attn_implementation),
            quantisation_identity(config),
        )


def _states(source: Source) -> list[object]:
    """The states of all files of a member: they tell whether any was written to while it was loaded."""
    gguf = file_state(source.gguf) if source.gguf else None
    return [file_states(source.path), *(file_states(adapter.path) for adapter in source.adapters), gguf]
