"""A base model and its donors: what they are, and loading them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from entitrack.engine.anatomy import Anatomy
from entitrack.errors import UserError
from entitrack.models.anatomy import Architecture, describe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ZOO = Path(__file__).parent / "zoo"
ATTENTIONS = ("sdpa", "eager")
_ZOO_SCHEME = "zoo://"
_WHOLE_FILE = 1 << 26


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's weights are.

    Attributes:
        path: A folder, a hub name, or `zoo://NAME` for the embedded family.
        adapter: A peft adapter on top of it: a folder, a hub name, or `zoo://NAME`.
        revision: Revision on the hub.
        hosted: Name under which a server hosts it, where that is not the path: structure and tokenizer then come from
            the path, which needs no weights.
    """

    path: str
    adapter: str | None = None
    revision: str | None = None
    hosted: str | None = None


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        name: Its name in the family.
        envoy: The nnsight model.
        anatomy: How it is built.
        fingerprint: Changes when the weights do.
    """

    name: str
    envoy: Any = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    fingerprint: str


@dataclass
class Family:
    """A base and its donors. Members are loaded when they are first asked for, and kept.

    Attributes:
        name: Name of the family.
        base: Name of the member that is the base.
        members: Name -> checkpoint.
        dtype: `float32`, `bfloat16` or `float16`.
        device: `auto`, `cpu`, `cuda`, `cuda:0`, `mps`.
        attention: Implementation of attention: `sdpa` or `eager`.
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
        """Refuse a base that is not a member, and attention that takes no mask of its own for each layer."""
        self.checkpoint(self.base, "model.base")
        if self.attention not in ATTENTIONS:
            raise UserError("model.attention", f"unknown implementation {self.attention!r}", ATTENTIONS)

    def checkpoint(self, name: str, place: str) -> Checkpoint:
        """Where the weights of a member are.

        Raises:
            UserError: There is no such member; `place` is the config key that named it.
        """
        if name not in self.members:
            raise UserError(place, f"family {self.name!r} has no member {name!r}", self.members)
        return self.members[name]

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

    def _load(self, name: str, checkpoint: Checkpoint) -> Model:
        from nnsight import TransformersModel
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        place = f"model.members.{name}"
        path, adapter = _resolve(checkpoint.path), _resolve(checkpoint.adapter)
        options: dict[str, Any] = {"dispatch": self.dispatch}
        if self.dispatch:
            options["device_map"] = pick_device(self.device)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, revision=checkpoint.revision)
            envoy = TransformersModel(
                path,
                task="text-generation",
                tokenizer=tokenizer,
                peft=adapter,
                revision=checkpoint.revision,
                dtype=pick_dtype(self.dtype),
                attn_implementation=self.attention,
                **options,
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(place, f"cannot load {path!r} ({reason})") from error
        envoy._module.eval().requires_grad_(False)
        if checkpoint.hosted:
            envoy.repo_id = checkpoint.hosted
        weights = path if self.dispatch else checkpoint.hosted or path
        revision = getattr(envoy._module.config, "_commit_hash", None) or checkpoint.revision
        return Model(
            name,
            envoy,
            describe(envoy._module.config, self.architecture),
            fingerprint(weights, adapter, self.dtype, revision),
        )


def pick_dtype(name: str) -> torch.dtype:
    """The torch dtype of that name.

    Raises:
        UserError: It is not one that models run in.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UserError("model.dtype", f"unknown dtype {name!r}", known)
    return known[name]


def pick_device(name: str) -> str:
    """The device to run on; `auto` takes an accelerator where there is one.

    Raises:
        UserError: There is no such device, or not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError("model.device", f"unknown device {name!r}", ["auto", "cpu", "cuda", "cuda:0", "mps"]) from error
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 1):
        raise UserError("model.device", f"{name!r} is not there", fix="use model.device=cpu")
    return name


def _resolve(path: str | None) -> str | None:
    """A place as transformers takes it: `zoo://NAME` is a folder of the embedded family."""
    if path is None or not path.startswith(_ZOO_SCHEME):
        return path
    return str(ZOO / path.removeprefix(_ZOO_SCHEME))


def fingerprint(path: str | None, adapter: str | None, dtype: str, revision: str | None = None) -> str:
    """A digest that changes when the weights do.

    Files up to 64 MiB count whole; of larger ones the size, the first and the last MiB. Checkpoints on the hub count
    by name and resolved revision.
    """
    parts = [_fingerprint_one(path, revision) if path else "", _fingerprint_one(adapter, None) if adapter else ""]
    return hashlib.sha256(json.dumps([*parts, dtype]).encode()).hexdigest()[:16]


def _fingerprint_one(place: str, revision: str | None) -> str:
    folder = Path(place)
    if not folder.is_dir():
        return f"{place}@{revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix not in {".safetensors", ".json", ".bin"}:
            continue
        digest.update(f"{file.name}/{file.stat().st_size}".encode())
        with file.open("rb") as stream:
            if file.stat().st_size <= _WHOLE_FILE:
                digest.update(stream.read())
            else:
                digest.update(stream.read(1 << 20))
                stream.seek(-(1 << 20), 2)
                digest.update(stream.read())
    return digest.hexdigest()
