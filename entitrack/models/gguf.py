"""Models in one `.gguf` file, a folder's or an installed package's.

transformers reads such a file slowly (a minute for a vocabulary of 262,144 words), and what it returns counts as
quantised though its weights are float32. So a file is read once:

1. Configuration, tokenizer and weights are read as transformers reads them, the weights made float32.
2. They go into a fresh model of that configuration, which knows nothing of a quantisation.
3. That is saved as an ordinary checkpoint in the user's cache, `$XDG_CACHE_HOME/entitrack/gguf/DIGEST`, whole or not at
   all; the digest is of the file's bytes and of the libraries that read it. It may be deleted.
4. From there it is loaded as any other; what it goes by is the file's own bytes, see `identity`.
"""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from entitrack.core.errors import UserError
from entitrack.core.notices import warn
from entitrack.models.hashing import file_digest, record_digest, user_cache, user_cache_folder
from entitrack.models.packages import SCHEME, package_file

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_LARGE = 50_000_000


def gguf_file(path: str, place: str) -> Path | None:
    """The file that a member's `path` names, if it is a gguf; None for a folder or a model of the hub.

    Raises:
        UserError: There is no such file, or it is no gguf; `place` is the config key that named it.
    """
    if not path.startswith(SCHEME) and not path.lower().endswith(SUFFIX):
        return None
    if path.startswith(SCHEME) and not path.lower().endswith(SUFFIX):
        raise UserError(place, f"{path!r} is no gguf", fix="write package://PACKAGE/FILE.gguf")
    file = package_file(path, place) if path.startswith(SCHEME) else Path(path).expanduser()
    if file.is_dir():
        return None
    if not file.is_file():
        raise UserError(place, f"there is no file {path!r}", fix="name one of this machine, or package://PACKAGE/FILE")
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise UserError(place, f"{path!r} is no gguf: it does not begin with {_MAGIC.decode()}")
    return file.resolve()


def checkpoint_of(file: Path, place: str) -> Path:
    """The folder of the user's cache with what is in a gguf; made if it is not there yet.

    Raises:
        UserError: The library to read it with is missing, it is broken or of no known kind, or there is no room.
    """
    if find_spec("gguf") is None:
        raise UserError(place, "reading a gguf needs the library gguf", fix="pip install gguf")
    cache = user_cache_folder()
    if cache is None:
        raise UserError(place, f"there is no place to unpack {file.name!r} in", fix="set XDG_CACHE_HOME to a folder")
    readers = [version("transformers"), version("gguf")]
    folder = cache / "gguf" / record_digest([file_digest(file, user_cache(), place), *readers])
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                _unpack(file, folder, place)
        except OSError as error:
            problem = f"cannot unpack {file.name!r} ({error.strerror}: {str(folder)!r})"
            raise UserError(place, problem, fix="set XDG_CACHE_HOME to a folder with room") from error
    return folder


def _unpack(file: Path, folder: Path, place: str) -> None:
    """Write the checkpoint beside its place, then move it there; another process may have done so meanwhile."""
    from entitrack.models.sources import explained, quiet

    if folder.is_dir():
        return
    if file.stat().st_size > _LARGE:
        warn(f"unpacking {file.name}, once, into {folder}: up to a minute")
    part = folder.with_suffix(".part")  # left by a process that was killed, for this one holds the lock
    shutil.rmtree(part, ignore_errors=True)
    try:
        # The bars of transformers would be the only thing it says, of what takes the shorter part of the time.
        with redirect_stderr(StringIO()), quiet(), explained(place, repr(str(file))):
            model, tokenizer = _read(file, place)
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read(file: Path, place: str) -> tuple[Any, Any]:
    """The model and the tokenizer of a file; the model's weights are float32, and it is not quantised."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from entitrack.models.accounts import check_account
    from entitrack.models.loading import check_kind
    from entitrack.models.sources import Source

    source = Source(place, str(file))
    where, what = file.parent, {"gguf_file": file.name, **source.options}
    config: Any = AutoConfig.from_pretrained(where, **what)
    check_kind(config, source)
    tokenizer = AutoTokenizer.from_pretrained(where, **what)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        where, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **what
    )
    module, account = loaded
    check_account(account, source)
    plain = config.to_dict()
    plain.pop("quantization_config", None)
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(type(config).from_dict(plain), dtype=torch.float32)
    fresh.load_state_dict(module.state_dict(), assign=True)
    fresh.tie_weights()
    return fresh, tokenizer
