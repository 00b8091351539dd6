"""A base model and its donors: what they are, and loading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from entitrack.core.errors import UserError
from entitrack.engine.anatomy import Anatomy
from entitrack.models.anatomy import Architecture, check_anatomy, describe
from entitrack.models.checkpoint import ZOO, Checkpoint
from entitrack.models.devices import pick_device, pick_dtype
from entitrack.models.hashing import record_digest, user_cache
from entitrack.models.identity import (
    Identity,
    adapter_identity,
    file_states,
    quantisation_identity,
    tokenizer_identity,
    weights_identity,
)
from entitrack.models.loading import Source, check_kind, explained, load_config, load_envoy
from entitrack.models.settings import FamilySettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ZOO", "Checkpoint", "Family", "Model", "pick_device", "pick_dtype"]


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        name: Its name in the family.
        envoy: The nnsight model.
        anatomy: How it is built.
        identity: What its results depend on; the anatomy that it names is always this one.
    """

    name: str
    envoy: Any = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    identity: Identity

    def __post_init__(self) -> None:
        """Name the anatomy in the identity, however the model was made: two anatomies never share a result."""
        object.__setattr__(self, "identity", replace(self.identity, anatomy=record_digest(self.anatomy)))


@dataclass
class Family:
    """A base and its donors. Members are loaded when they are first asked for, and kept.

    Attributes:
        name: See `FamilySettings`, also for `base`, `members`, `dtype`, `device` and `attention`.
        architecture: How the models are built, where the user says so.
        dispatch: Load weights; without them models have structure and tokenizer only, enough to run elsewhere.
    """

    name: str
    base: str
    members: Mapping[str, Checkpoint]
    dtype: str = "float32"
    device: str = "auto"
    attention: str = "sdpa"
    dispatch: bool = True
    architecture: Architecture | None = None
    _loaded: dict[str, Model] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse what `FamilySettings` refuses."""
        self._settings()

    def checkpoint(self, name: str, place: str) -> Checkpoint:
        """Where the weights of a member are.

        Raises:
            UserError: There is no such member; `place` is the config key that named it.
        """
        return self._settings().member(name, place)

    def _settings(self) -> FamilySettings:
        shared = {name: getattr(self, name) for name in ("name", "base", "dtype", "device", "attention")}
        return FamilySettings(**shared, members=dict(self.members))

    def load(self, name: str, place: str = "donor") -> Model:
        """The member `name`.

        Raises:
            UserError: There is no such member, or its weights cannot be read.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self.checkpoint(name, place))
        return self._loaded[name]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer, which every member is used with."""
        return self.load(self.base).envoy.tokenizer

    @property
    def loaded(self) -> Mapping[str, Model]:
        """The members loaded so far, by name."""
        return MappingProxyType(self._loaded)

    def _load(self, name: str, checkpoint: Checkpoint) -> Model:
        source = Source.of(name, checkpoint)
        dtype, device = pick_dtype(self.dtype), pick_device(self.device) if self.dispatch else None
        before = file_states(source.path), file_states(source.adapter)
        config = load_config(source)
        check_kind(config, source)
        with explained(source.place, f"{source.path!r}, its configuration"):
            anatomy = describe(config, self.architecture)
        envoy = load_envoy(source, config, dtype, self.attention, device)
        envoy._module.eval().requires_grad_(False)
        with explained(source.place, repr(source.path)):
            check_anatomy(envoy._module, anatomy)
            identity = self._identify(source, checkpoint, envoy)
        if (file_states(source.path), file_states(source.adapter)) != before:
            fix = "give the command again once it is written"
            raise UserError(source.place, f"{source.path!r} or its adapter changed while it was loaded", fix=fix)
        if checkpoint.hosted:
            envoy.repo_id = checkpoint.hosted
        return Model(name, envoy, anatomy, identity)

    def _identify(self, source: Source, checkpoint: Checkpoint, envoy: Any) -> Identity:
        """What the loaded model goes by; without weights, its name stands for them."""
        cache, place, config = user_cache(), source.place, envoy._module.config
        revision = getattr(config, "_commit_hash", None) or source.revision
        weights = source.path if self.dispatch else checkpoint.hosted or source.path
        return Identity(
            weights_identity(weights, revision, self.dispatch, cache, place),
            adapter_identity(source.adapter, self.dispatch, cache, place) if source.adapter else "",
            tokenizer_identity(envoy.tokenizer, source.path, revision, cache, place),
            self.dtype,
            str(config._attn_implementation),
            quantisation_identity(config),
        )
