"""Loading a model, or saying in one line why it is refused.

1. The configuration says what kind of model it is; one of another kind, or with code of its own, goes no further.
2. Weights are loaded with an account of what was missing, left over or of another shape: transformers fills such
   tensors with random numbers and goes on, which is refused here.
3. An adapter is attached, and refused unless all of it lands.
4. Every number must be finite.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from entitrack.core.errors import UserError
from entitrack.models.checkpoint import Checkpoint, local_folder, resolve, weight_files

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LONGEST = 400
_SHOWN = 3
_CAUSAL = "text-generation"
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_NO_WEIGHTS = re.compile("[IU]\\d+|BOOL|F8_.*|F4")
_PLAINLY = {
    "Weights only load failed": "a pickled file is damaged, or holds more than tensors, which is never run",
    "contains custom code": "it brings code of its own, which is never run",
}
"""What libraries say where their advice is none to follow -> what is said instead."""


@dataclass(frozen=True)
class Source:
    """A checkpoint whose places are known to look right.

    Attributes:
        place: The config key of the member.
        path: Folder or hub name of the model.
        adapter: Folder or hub name of the adapter, if there is one.
        revision: Revision on the hub.
    """

    place: str
    path: str
    adapter: str | None
    revision: str | None

    @classmethod
    def of(cls, name: str, checkpoint: Checkpoint) -> Source:
        """The source of a member.

        Raises:
            UserError: A folder is not there.
        """
        place = f"model.members.{name}"
        adapter = resolve(checkpoint.adapter, f"{place}.adapter") if checkpoint.adapter is not None else None
        return cls(place, resolve(checkpoint.path, f"{place}.path"), adapter, checkpoint.revision)

    @property
    def options(self) -> dict[str, Any]:
        """What every `from_pretrained` is told."""
        return {"revision": self.revision, "trust_remote_code": False}


def load_envoy(source: Source, config: Any, dtype: torch.dtype, attention: str, device: str | None) -> Any:
    """The nnsight model of a source, ready to run.

    Args:
        source: Where it is.
        config: Its configuration.
        dtype: What its weights are held in.
        attention: Implementation of attention.
        device: Where it is loaded to; None loads no weights: structure and tokenizer are enough to run elsewhere.

    Raises:
        UserError: It is refused; in one line that says why.
    """
    with quiet():
        tokenizer = load_tokenizer(source)
        loading = {"dtype": dtype, "attn_implementation": attention}
        if device is None:
            return _attach_structure(source, tokenizer, loading)
        module = load_weights(source, config, loading | {"device_map": device})
        envoy = _wrap(source, module, tokenizer)
        check_finite(envoy._module, source.place, dtype)
        return envoy


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and peft from writing on the terminal: what matters is refused, in one line."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def explained(place: str, what: str) -> Iterator[None]:
    """Make one line of whatever is raised within: at broken files libraries raise every kind of error.

    Raises:
        UserError: In place of it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(place, f"cannot load {what} ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line: its first, and the next where the first only announces it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {str(error.filename)!r}" if error.filename else error.strerror
    lines = [_CONTROL.sub(" ", line).strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line] or [type(error).__name__]
    known = next((words for marker, words in _PLAINLY.items() if marker in lines[0]), None)
    if known:
        return known
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if isinstance(error, KeyError):
        said = f"{said} is missing, or not known"
    return said if len(said) <= _LONGEST else said[:_LONGEST] + "..."


def load_config(source: Source) -> Any:
    """The configuration of a model.

    Raises:
        UserError: There is none, or it is broken.
    """
    from transformers import AutoConfig

    folder = Path(source.path)
    if folder.is_dir():
        if (folder / "adapter_config.json").is_file():
            fix = f"name its base as {source.place}.path, and this folder as {source.place}.adapter"
            raise UserError(f"{source.place}.path", f"{source.path!r} is an adapter", fix=fix)
        if not (folder / "config.json").is_file():
            raise UserError(f"{source.place}.path", f"there is no config.json in {source.path!r}")
        for name in _TEXTS:
            with explained(source.place, f"{source.path!r}, its {name}"):
                check_object(folder / name)
    with quiet(), explained(source.place, f"{source.path!r}, its configuration"):
        config = AutoConfig.from_pretrained(source.path, **source.options)
        _refuse_own_code(config.to_dict(), source)
        return config


def check_object(path: Path) -> None:
    """Refuse a file that is there and holds no JSON object.

    Raises:
        ValueError: It does not.
    """
    if path.exists() and not isinstance(json.loads(path.read_bytes()), dict):
        raise ValueError("it is no JSON object")


def _refuse_own_code(config: Mapping[str, Any], source: Source) -> None:
    """Refuse a checkpoint that brings its own code, unless transformers has taken that very class over."""
    own = config.get("auto_map")
    if not own:
        return
    named = own.get("AutoModelForCausalLM") if isinstance(own, Mapping) else None
    if isinstance(named, str) and named.rpartition(".")[2] == _causal_class(str(config.get("model_type"))):
        return
    problem = f"{source.path!r} brings code of its own (auto_map in its config.json), which is never run"
    raise UserError(source.place, problem, fix="use a model that transformers knows")


def _causal_class(kind: str) -> str | None:
    """Name of the class of causal language models of a `model_type`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    return found if isinstance(found, str) or found is None else found[0]


def check_kind(config: Any, source: Source) -> None:
    """Refuse what is no causal language model.

    Raises:
        UserError: Saying what it is instead.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    place, kind = source.place, config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(place, f"{source.path!r} is an encoder-decoder ({kind}), not a decoder-only language model")
    if _causal_class(kind) is None:
        raise UserError(place, f"{source.path!r} is no language model ({kind})")
    named = getattr(config, "architectures", None) or [_causal_class(kind)]
    if _causal_class(kind) not in named:
        problem = f"{source.path!r} is a {', '.join(map(str, named))}, not a causal language model"
        raise UserError(place, problem, fix=f"use a {_causal_class(kind)}")
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", True):
        raise UserError(place, f"{source.path!r} is an encoder ({kind}): its tokens see those that follow")
    if getattr(config, "transformers_weights", None):
        raise UserError(place, f"the config.json of {source.path!r} names a file of weights of its own")


def load_tokenizer(source: Source) -> Any:
    """The tokenizer of a model.

    Raises:
        UserError: It is broken, or missing, or has no words.
    """
    import transformers
    from transformers import AutoTokenizer

    with explained(source.place, f"{source.path!r}, its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.options)
        if not len(tokenizer):
            raise ValueError("it has no words")
        own = tokenizer.init_kwargs.get("auto_map")
        if own and not hasattr(transformers, type(tokenizer).__name__):
            raise ValueError(next(iter(_PLAINLY.values())))
        return tokenizer


def load_weights(source: Source, config: Any, loading: Mapping[str, Any]) -> Any:
    """The module of a model, with every tensor from its checkpoint.

    Args:
        source: Where it is.
        config: Its configuration.
        loading: What `from_pretrained` is told besides.

    Raises:
        UserError: Files are damaged, or tensors are missing, left over or of another shape.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(source.path)
    if folder.is_dir():
        with explained(source.place, f"{source.path!r}, its weights"):
            headers = check_headers(weight_files(folder))
            if headers and not getattr(config, "quantization_config", None):
                check_sizes(config, headers)
    with explained(source.place, f"{source.path!r}, its weights"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.path, output_loading_info=True, ignore_mismatched_sizes=True, **source.options, **loading
        )
        module, account = loaded
    check_account(account, source)
    if getattr(config, "quantization_config", None) and getattr(module, "hf_quantizer", None) is None:
        raise UserError(source.place, f"the config.json of {source.path!r} names a quantisation that is not known")
    if getattr(module, "_hf_peft_config_loaded", False):
        raise UserError(source.place, f"{source.path!r} has an adapter within", fix="use its base and the adapter")
    return module


def check_headers(files: Mapping[str, Path]) -> dict[str, tuple[str, list[int]]]:
    """Refuse safetensors files that are cut short or damaged, by name.

    Returns:
        Name of each tensor -> its dtype and shape.

    Raises:
        ValueError: Naming the file.
    """
    from safetensors import SafetensorError, safe_open

    headers = {}
    for name, path in files.items():
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt") as opened:
                    for tensor in opened.keys():  # noqa: SIM118 - it is no mapping
                        part = opened.get_slice(tensor)
                        headers[tensor] = (str(part.get_dtype()), list(part.get_shape()))
            except SafetensorError as error:
                raise ValueError(f"{name}: {reason(error)}") from error
    return headers


def check_sizes(config: Any, headers: Mapping[str, tuple[str, list[int]]]) -> None:
    """Refuse matrices that are no weights, and a configuration of a model far larger than the files.

    Tensors that a file lacks are made before it is known that it lacks them: an absurd size would take all memory.

    Raises:
        ValueError: Naming the tensor, or the key of config.json.
    """
    for name, (dtype, shape) in headers.items():
        if len(shape) == 2 and _NO_WEIGHTS.fullmatch(dtype):
            raise ValueError(f"{name} is stored as {dtype}, and config.json names no quantisation")
    held = sum(math.prod(shape) for _, shape in headers.values())
    if config.num_hidden_layers > len(headers):
        raise ValueError(f"num_hidden_layers is {config.num_hidden_layers}, and the files hold {len(headers)} tensors")
    for key in ("vocab_size", "intermediate_size", "num_attention_heads"):
        if (getattr(config, key, None) or 0) * config.hidden_size > held:
            raise ValueError(f"{key} is {getattr(config, key)}, and the files hold {held} numbers")


def check_account(account: Mapping[str, Any], source: Source) -> None:
    """Refuse a checkpoint whose tensors are not those of the model.

    What transformers knows to be harmless (tied weights, buffers that older releases saved) is not in the account.

    Raises:
        UserError: Naming the first tensors.
    """
    shapes = [
        f"{name} is {tuple(there)} in the file and {tuple(here)} by its config.json"
        for name, there, here in sorted(account["mismatched_keys"])
    ]
    for found, words in (
        (shapes, "tensors of another shape"),
        (sorted(account["missing_keys"]), "missing tensors"),
        (sorted(account["unexpected_keys"]), "tensors that the model has no place for"),
        (list(account["error_msgs"]), "tensors that cannot be read"),
    ):
        if found:
            raise UserError(source.place, f"the checkpoint {source.path!r} has {_count(found, words)}")


def _count(found: Collection[str], words: str) -> str:
    """How many there are, and the first of them."""
    shown = ", ".join(_CONTROL.sub(" ", name) for name in list(found)[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{words}: {shown}{more}"


def _wrap(source: Source, module: Any, tokenizer: Any) -> Any:
    """The nnsight model of a module, with the adapter attached."""
    from nnsight import TransformersModel

    placed = {} if getattr(module, "hf_device_map", None) else {"device": module.device}
    with _explained_adapter(source):
        return TransformersModel(
            module, task=_CAUSAL, tokenizer=tokenizer, peft=source.adapter, revision=source.revision, **placed
        )


def _attach_structure(source: Source, tokenizer: Any, loading: Mapping[str, Any]) -> Any:
    """The nnsight model of a source, without weights."""
    from nnsight import TransformersModel

    with _explained_adapter(source):
        return TransformersModel(
            source.path, task=_CAUSAL, tokenizer=tokenizer, peft=source.adapter, **source.options, **loading
        )


@contextmanager
def _explained_adapter(source: Source) -> Iterator[None]:
    """Refuse an adapter for another kind of model, and say of any other why it does not attach."""
    if source.adapter is None:
        with explained(source.place, repr(source.path)):
            yield
        return
    place = f"{source.place}.adapter"
    with explained(place, repr(source.adapter)):
        check_adapter(source)
        try:
            yield
        except ValueError as error:
            _, marker, unplaced = str(error).partition("Weights with no place: ")
            if not marker:
                raise
            lacking = ".default." in unplaced  # as peft names what an adapter of this configuration should have
            words = "lacks tensors that its adapter_config.json asks for on" if lacking else "has no place in"
            problem = f"the adapter {source.adapter!r} {words} {source.path!r}: {unplaced}"
            raise UserError(place, problem, fix="name the base that it was trained on") from error


def check_adapter(source: Source) -> None:
    """Refuse an adapter for another task, with damaged files, or for a base of this machine that is not this one.

    The name that an adapter gives its base is otherwise no reason: it is often a path of the machine that trained it.

    Raises:
        UserError: Saying which.
        ValueError: A file is damaged.
    """
    from peft import PeftConfig

    assert source.adapter is not None
    place = f"{source.place}.adapter"
    folder = local_folder(source.adapter, None)
    if Path(source.adapter).is_dir() and not Path(source.adapter, "adapter_config.json").is_file():
        raise UserError(place, f"there is no adapter_config.json in {source.adapter!r}")
    if folder:
        check_object(folder / "adapter_config.json")
        if Path(source.adapter).is_dir() and not any((folder / name).is_file() for name in _ADAPTERS):
            raise UserError(place, f"there is no {' or '.join(_ADAPTERS)} in {source.adapter!r}")
    config = PeftConfig.from_pretrained(source.adapter)
    if config.task_type not in (None, "CAUSAL_LM"):
        raise UserError(place, f"the adapter {source.adapter!r} is for {config.task_type}, not for CAUSAL_LM")
    if folder:
        check_headers({file.name: file for file in folder.glob("*.safetensors")})
    named = Path(config.base_model_name_or_path or "")
    if named.is_absolute() and (named / "config.json").is_file() and Path(source.path).is_dir():
        check_named_base(source, named)


def check_named_base(source: Source, named: Path) -> None:
    """Refuse an adapter that names another base, if that is a folder here with other weights in it.

    Raises:
        UserError: Naming both.
    """
    from entitrack.models.hashing import files_digest, user_cache

    cache = user_cache()
    digests = {files_digest(weight_files(folder), cache, source.place) for folder in (named, Path(source.path))}
    if len(digests) > 1:
        problem = f"the adapter {source.adapter!r} was made on {str(named)!r}, not on {source.path!r}"
        raise UserError(f"{source.place}.adapter", problem, fix=f"set {source.place}.path={named}")


def check_finite(module: torch.nn.Module, place: str, dtype: torch.dtype) -> None:
    """Refuse weights that are not all finite: what is computed with them is nothing.

    Raises:
        UserError: Naming the first tensor that is not.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if not (bool(tensor.max().isfinite()) and bool(tensor.min().isfinite())):
            fix = "" if dtype == torch.float32 else "if it is finite in its file, set model.dtype=float32"
            raise UserError(place, f"{name} holds numbers that are not finite", fix=fix)
