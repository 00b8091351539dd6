"""Loading a model, or saying in one line why it is refused.

1. The configuration says what kind of model it is; one of another kind, or with code of its own, goes no further.
2. Weights are loaded with an account of what was missing, left over or of another shape: transformers fills such
   tensors with random numbers and goes on, which is refused here.
3. Every number must be finite.
4. Adapters are attached, and refused unless all of each lands: those that are merged to the weights, others to a copy
   of the structure that shares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from entitrack.core.errors import UserError
from entitrack.models.accounts import check_account, check_finite, check_headers, check_sizes, stored_bytes
from entitrack.models.adapters import attach_kept, explained_structure, hosted_adapter, merge
from entitrack.models.checkpoint import local_folder, weight_files
from entitrack.models.devices import check_parts
from entitrack.models.held import shared_copy
from entitrack.models.sources import OWN_CODE, Source, check_object, explained, quiet, reason

_CAUSAL = "text-generation"
_TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Manner:
    """How weights are held, whichever they are.

    Attributes:
        dtype: What they are held in.
        attention: Implementation of attention.
        placement: Where they go, as `device_map` takes it.
        placed_by: The config key that says so.
    """

    dtype: torch.dtype
    attention: str
    placement: str | dict[str, str]
    placed_by: str


def coming_bytes(source: Source, dtype: torch.dtype) -> int | None:
    """Bytes that the weights of a source are going to take; None if its files are not on this machine, or broken."""
    try:
        folder = local_folder(source.path, source.revision)
        return stored_bytes(weight_files(folder), dtype) if folder else None
    except (ValueError, OSError):
        return None


def load_base(source: Source, config: Any, manner: Manner) -> nn.Module:
    """The weights of a source, those of its adapters added that are to be merged.

    Raises:
        UserError: They are refused; in one line that says why.
    """
    with quiet():
        loading: dict[str, Any] = {"dtype": manner.dtype, "attn_implementation": manner.attention}
        if source.quantisation:
            loading["quantization_config"] = _quantised(source, config, manner.dtype)
        module = load_weights(source, config, {**loading, "device_map": manner.placement})
        if isinstance(manner.placement, dict):
            check_parts(module, manner.placement, manner.placed_by)
        merge(module, source)
        check_finite(_tensors(module), source.place, manner.dtype)
        module.eval().requires_grad_(False)
        return module


def wrap(source: Source, base: nn.Module, dtype: torch.dtype) -> Any:
    """The nnsight model of a member: a copy of its base that shares the tensors, with its adapters that are kept.

    Raises:
        UserError: An adapter or the tokenizer is refused.
    """
    from nnsight import TransformersModel

    with quiet():
        tokenizer = load_tokenizer(source)
        module: Any = shared_copy(base)
        attach_kept(module, source)
        shared = {id(tensor) for _, tensor in _tensors(base)}
        check_finite([(name, own) for name, own in _tensors(module) if id(own) not in shared], source.place, dtype)
        placed = {} if getattr(module, "hf_device_map", None) else {"device": module.device}
        with explained(source.place, repr(source.path)):
            envoy = TransformersModel(module, task=_CAUSAL, tokenizer=tokenizer, revision=source.revision, **placed)
        envoy._module.eval().requires_grad_(False)
        return envoy


def load_structure(source: Source, dtype: torch.dtype, attention: str) -> Any:
    """The nnsight model of a source without weights: structure and tokenizer are enough to run elsewhere.

    Raises:
        UserError: It is refused; or no server can do what is asked for.
    """
    from nnsight import TransformersModel

    adapter, loading = hosted_adapter(source), {"dtype": dtype, "attn_implementation": attention}
    with quiet():
        tokenizer = load_tokenizer(source)
        with explained_structure(source):
            envoy = TransformersModel(
                source.path, task=_CAUSAL, tokenizer=tokenizer, peft=adapter, **source.options, **loading
            )
        envoy._module.eval().requires_grad_(False)
        return envoy


def _quantised(source: Source, config: Any, dtype: torch.dtype) -> Any:
    """What bitsandbytes is told.

    Raises:
        UserError: The checkpoint has a quantisation of its own.
    """
    from transformers import BitsAndBytesConfig

    if getattr(config, "quantization_config", None):
        problem = f"the config.json of {source.path!r} names a quantisation of its own"
        raise UserError(f"{source.place}.quantisation", problem, fix="leave it out")
    if source.quantisation == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers of a module."""
    return [*module.named_parameters(), *module.named_buffers()]


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
        try:
            config = AutoConfig.from_pretrained(source.path, **source.options)
        except OSError as error:
            if local_folder(source.path, source.revision):
                raise
            problem = f"{source.path!r} is not on this machine, and the hub (huggingface.co) does not give it"
            fix = "fetch it where there is a network (hf download), or name a folder or a file that is here"
            raise UserError(f"{source.place}.path", f"{problem} ({reason(error)})", fix=fix) from error
        _refuse_own_code(config.to_dict(), source)
        return config


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


def check_attention(config: Any, attention: str) -> None:
    """Refuse an implementation of attention that transformers does not have for a model.

    Raises:
        UserError: Naming the one that every model has.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    built_as: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if attention == "sdpa" and built_as is not None and not getattr(built_as, "_supports_sdpa", True):
        problem = f"transformers has no sdpa for {built_as.__name__}"
        raise UserError("model.attention", problem, fix="set model.attention=eager")


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
            raise ValueError(OWN_CODE)
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
