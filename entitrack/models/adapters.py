"""Attaching adapters, or saying in one line why one does not fit the model that it is put on.

1. What an adapter's files say is checked before anything is attached.
2. Its layers are put into the model in place of those that it is for, under a name of its own.
3. All its tensors must land, and all that it should have must come: peft leaves others as they begin, and an adapter
   that begins is the identity.
4. It stays so, beside others that do; or what it adds is added to the weights, and the model has its own layers again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from entitrack.core.errors import UserError
from entitrack.models.accounts import check_headers
from entitrack.models.checkpoint import local_folder, weight_files
from entitrack.models.sources import AdapterSource, Source, check_object, explained

_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_SHOWN = 3


def attach_kept(module: nn.Module, source: Source) -> None:
    """Attach the adapters that stay beside the weights; all of them are active.

    Raises:
        UserError: One does not fit.
    """
    names = [f"adapter_{number}" for number in range(len(source.kept))]
    for name, adapter in zip(names, source.kept, strict=True):
        with explained(adapter.place, repr(adapter.path)):
            _attach(module, source, adapter, name, alone=len(names) == 1)
    if len(names) > 1:
        for layer in _adapted(module):
            layer.set_adapter(names)


def merge(module: nn.Module, source: Source) -> None:
    """Add to the weights what the adapters add that are to be merged, one after the other.

    Raises:
        UserError: One does not fit, or is for weights that another layer has too.
    """
    for adapter in source.merged:
        with explained(adapter.place, repr(adapter.path)):
            _attach(module, source, adapter, "merged", alone=False)
            held = Counter(value.data_ptr() for _, value in module.named_parameters(remove_duplicate=False))
            for layer in _adapted(module):
                if any(held[value.data_ptr()] > 1 for value in layer.get_base_layer().parameters()):
                    problem = f"the adapter {adapter.path!r} is for weights that two layers share, as tied embeddings"
                    raise UserError(adapter.place, problem, fix="keep it (merged: false)")
                layer.merge()
            _detach(module)


def _attach(module: nn.Module, source: Source, adapter: AdapterSource, name: str, alone: bool) -> None:
    """Put an adapter's layers into a model.

    Raises:
        UserError: It is not for this model.
        ValueError: It works in another way than by layers of its own.
    """
    from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
    from peft.functional import cast_adapter_dtype
    from peft.utils import load_peft_weights

    check_adapter(source, adapter)
    config = PeftConfig.from_pretrained(adapter.path, revision=adapter.revision)
    if config.is_prompt_learning or getattr(config, "is_adaption_prompt", False):
        raise ValueError(f"it is a {config.peft_type} adapter, which adds to prompts and not to layers")
    if not alone and getattr(config, "modules_to_save", None):
        raise ValueError("it replaces whole modules (modules_to_save), which one adapter can do, if it is kept")
    inject_adapter_in_model(config, module, adapter_name=name)
    cast_adapter_dtype(module, name)
    told: Any = {"revision": adapter.revision} if adapter.revision else {}
    stored = load_peft_weights(adapter.path, device="cpu", **told)
    tensors = {key.removeprefix("base_model.model."): value for key, value in stored.items()}
    account: Any = set_peft_model_state_dict(module, tensors, adapter_name=name)
    asked = get_peft_model_state_dict(module, adapter_name=name, save_embedding_layers=False)
    missing = sorted(set(asked) - set(tensors))
    for unplaced, words in (
        (list(account.unexpected_keys), "has no place in"),
        (missing, "lacks tensors that its adapter_config.json asks for on"),
    ):
        if unplaced:
            problem = f"the adapter {adapter.path!r} {words} {source.path!r}: {unplaced[:_SHOWN]}"
            raise UserError(adapter.place, problem, fix="name the base that it was trained on")


def _adapted(module: nn.Module) -> list[Any]:
    """The layers that adapters have put into a model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]


def _detach(module: nn.Module) -> None:
    """Give a model its own layers back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
    del module.peft_config


@contextmanager
def explained_structure(source: Source) -> Iterator[None]:
    """Refuse an adapter for another kind of model, and say of a model without weights why it cannot be made."""
    with explained(source.place, repr(source.path)):
        for adapter in source.adapters:
            with explained(adapter.place, repr(adapter.path)):
                check_adapter(source, adapter)
        yield


def hosted_adapter(source: Source) -> str | None:
    """The adapter that a server puts on its copy of a member's base, if there is one.

    Raises:
        UserError: A server cannot do what is asked for.
    """
    if source.quantisation:
        place = f"{source.place}.quantisation"
        raise UserError(place, "a server holds weights as it does", fix="leave it out")
    _one_kept(source.adapters)
    return next((adapter.path for adapter in source.adapters), None)


def _one_kept(adapters: Sequence[AdapterSource]) -> None:
    fix = "run it here (backend=local), or name a checkpoint that a server hosts"
    for number, adapter in enumerate(adapters):
        if number or adapter.merged:
            problem = "a server takes one adapter" if number else "a server merges no adapter into weights"
            raise UserError(adapter.place, problem, fix=fix)
        if adapter.revision:
            raise UserError(adapter.place, "a server takes an adapter's main revision alone", fix=fix)


def check_adapter(source: Source, adapter: AdapterSource) -> None:
    """Refuse an adapter for another task, with damaged files, or for a base of this machine that is not this one.

    The name that an adapter gives its base is otherwise no reason: it is often a path of the machine that trained it.

    Raises:
        UserError: Saying which.
        ValueError: A file is damaged.
    """
    from peft import PeftConfig

    place, path = adapter.place, adapter.path
    folder = local_folder(path, adapter.revision)
    if Path(path).is_dir() and not Path(path, "adapter_config.json").is_file():
        raise UserError(place, f"there is no adapter_config.json in {path!r}")
    if folder:
        check_object(folder / "adapter_config.json")
        if Path(path).is_dir() and not any((folder / name).is_file() for name in _ADAPTERS):
            raise UserError(place, f"there is no {' or '.join(_ADAPTERS)} in {path!r}")
    config = PeftConfig.from_pretrained(path, revision=adapter.revision)
    if config.task_type not in (None, "CAUSAL_LM"):
        raise UserError(place, f"the adapter {path!r} is for {config.task_type}, not for CAUSAL_LM")
    if folder:
        check_headers({file.name: file for file in folder.glob("*.safetensors")})
    named = Path(config.base_model_name_or_path or "")
    if named.is_absolute() and (named / "config.json").is_file() and Path(source.path).is_dir():
        check_named_base(source, adapter, named)


def check_named_base(source: Source, adapter: AdapterSource, named: Path) -> None:
    """Refuse an adapter that names another base, if that is a folder here with other weights in it.

    Raises:
        UserError: Naming both.
    """
    from entitrack.models.hashing import files_digest, user_cache

    cache = user_cache()
    digests = {files_digest(weight_files(folder), cache, source.place) for folder in (named, Path(source.path))}
    if len(digests) > 1:
        problem = f"the adapter {adapter.path!r} was made on {str(named)!r}, not on {source.path!r}"
        raise UserError(adapter.place, problem, fix=f"set {source.place}.path={named}")
