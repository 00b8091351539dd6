"""Two models that differ in anything that a result depends on never share one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.methods.experiment import prompt_inputs
from entitrack.models import hashing
from entitrack.models.devices import device_kind
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.models.hashing import DigestCache, file_digest, file_state, user_cache
from entitrack.models.identity import Identity, adapters_identity, tokenizer_identity, weights_identity
from entitrack.models.sources import AdapterSource
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.store import Store
from entitrack.tasks.encoding import encode
from tests.golden_prompts import GoldenTask
from tests.models import altered

NONE = DigestCache(None)
LATER_NS = 10_000_000_000


@pytest.fixture(scope="module")
def folders(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies that may be written to: a checkpoint of two shards, and an adapter."""
    root = tmp_path_factory.mktemp("identity")
    base = altered.copy(golden_folder / "base", root / "base", altered.sharded)
    return {"base": base, "adapter": altered.adapter(root / "adapter", base)}


def of_files(folders: dict[str, Path], tokenizer: Any) -> str:
    """The identity of a member, as far as files make it; what is refused is nobody's."""
    base, adapter = str(folders["base"]), str(folders["adapter"])
    try:
        weights = weights_identity(base, None, True, NONE, "model")
    except ValueError:  # an index that is no JSON any more, or names other files
        return "refused"
    return Identity(
        weights,
        adapters_identity([AdapterSource("model", adapter)], True, NONE),
        tokenizer_identity(tokenizer, base, None, NONE, "model"),
    ).digest


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_byte_anywhere_makes_another_model(
    data: st.DataObject, folders: dict[str, Path], golden_family: Family
) -> None:
    files = sorted(file for folder in folders.values() for file in folder.iterdir())
    file = data.draw(st.sampled_from(files))
    offset = data.draw(st.integers(0, file.stat().st_size - 1))
    bits = data.draw(st.integers(1, 255))
    before = of_files(folders, golden_family.tokenizer)
    altered.flipped(file.name, offset, bits)(file.parent)
    try:
        assert of_files(folders, golden_family.tokenizer) != before
    finally:
        altered.flipped(file.name, offset, bits)(file.parent)
    assert of_files(folders, golden_family.tokenizer) == before


def test_every_file_of_a_checkpoint_counts_once(folders: dict[str, Path], golden_family: Family) -> None:
    before = of_files(folders, golden_family.tokenizer)
    one, other = folders["base"] / "model-1.safetensors", folders["base"] / "model-2.safetensors"
    spare = folders["base"] / "spare"
    one.rename(spare), other.rename(one), spare.rename(other)
    try:
        assert of_files(folders, golden_family.tokenizer) != before
    finally:
        one.rename(spare), other.rename(one), spare.rename(other)


def test_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(92 << 20)
    before = file_digest(path, NONE)
    with path.open("r+b") as stream:
        stream.seek(46 << 20)
        stream.write(b"\x01")
    assert file_digest(path, NONE) != before


def test_a_tokenizer_counts_by_what_was_read_too(golden_folder: Path, golden_family: Family) -> None:
    import copy

    base = str(golden_folder / "base")
    other = copy.deepcopy(golden_family.tokenizer)
    other.add_special_tokens({"cls_token": "<cls>"})
    first = tokenizer_identity(golden_family.tokenizer, base, None, NONE, "model")
    assert tokenizer_identity(other, base, None, NONE, "model") != first


# What shares a record, seen from the store.


def answered(family: Family, store: Path, model: Model | None = None) -> int:
    """Ask the base one batch; how many units were taken from the store."""
    task = GoldenTask(frozenset(family.tokenizer.get_vocab()), count=7)
    runner = Runner(Local(), Store(store))
    inputs = {"prompts": prompt_inputs(encode(task.prompts(), family.tokenizer))}
    runner.run(model or family.load("base"), answer, inputs)
    return runner.cost.reused


def family_of(folder: Path, adapter: Path | None = None, **settings: Any) -> Family:
    member = Checkpoint(str(folder), str(adapter) if adapter else None)
    return Family("golden", "base", {"base": member}, device="cpu", **settings)


def test_the_same_model_in_another_folder_shares_records(golden_folder: Path, tmp_path: Path) -> None:
    answered(family_of(golden_folder / "base"), tmp_path / "store")
    assert answered(family_of(altered.copy(golden_folder / "base", tmp_path / "it")), tmp_path / "store") == 1


def test_models_that_differ_share_no_record(golden_folder: Path, tmp_path: Path) -> None:
    base, store = golden_folder / "base", tmp_path / "store"
    middle = (base / "model.safetensors").stat().st_size // 2
    flipped = altered.copy(base, tmp_path / "flipped", altered.flipped("model.safetensors", middle, 1))
    rotary = altered.configured(rope_parameters={"rope_type": "default", "rope_theta": 10001.0})
    tokens = altered.merged("tokenizer_config.json", model_max_length=4096)
    adapter = altered.adapter(tmp_path / "adapter", base)
    other = altered.adapter(tmp_path / "other", base)
    altered.filled("lora_B", 0.25, "adapter_model.safetensors")(other)
    assert answered(family_of(base), store) == 0
    for family in (
        family_of(flipped),
        family_of(altered.copy(base, tmp_path / "rotary", rotary)),
        family_of(altered.copy(base, tmp_path / "tokens", tokens)),
        family_of(base, adapter),
        family_of(base, other),
        family_of(base, attention="eager"),
        family_of(base, dtype="bfloat16"),
        family_of(golden_folder / "donor"),
    ):
        assert answered(family, store) == 0
        assert answered(family, store) == 1


def test_two_anatomies_share_no_record(golden_folder: Path, tmp_path: Path) -> None:
    family = family_of(golden_folder / "base")
    model = family.load("base")
    other = dataclasses.replace(model, anatomy={**model.anatomy, "softcap": 30.0})  # type: ignore[arg-type]
    assert other.identity.anatomy != model.identity.anatomy
    assert answered(family, tmp_path / "store", model) == 0
    assert answered(family, tmp_path / "store", other) == 0
    assert answered(family, tmp_path / "store", model) == 1


def test_every_field_counts() -> None:
    first = Identity(*(["x"] * 7))
    assert first.digest == Identity(**dataclasses.asdict(first)).digest
    changed = {dataclasses.replace(first, **{entry.name: "y"}).digest for entry in dataclasses.fields(first)}
    assert len(changed | {first.digest}) == 8


def test_a_quantisation_counts(golden_model: Model) -> None:
    from entitrack.models.identity import quantisation_identity

    config = golden_model.envoy._module.config.__class__(quantization_config={"quant_method": "gptq", "bits": 4})
    other = golden_model.envoy._module.config.__class__(quantization_config={"quant_method": "gptq", "bits": 8})
    found = {quantisation_identity(entry) for entry in (golden_model.envoy._module.config, config, other)}
    assert len(found) == 3
    assert "" in found


def test_members_loaded_so_far_are_known(golden_folder: Path) -> None:
    family = family_of(golden_folder / "base")
    assert not family.loaded
    model = family.load("base")
    assert dict(family.loaded) == {"base": model}


def test_a_device_goes_by_its_product(monkeypatch: pytest.MonkeyPatch) -> None:
    products = {0: "H100", 1: "H100", 2: "A100"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: products[device.index])
    kinds = [device_kind(torch.device("cuda", index)) for index in products]
    assert kinds == ["cuda/H100", "cuda/H100", "cuda/A100"]
    assert device_kind(torch.device("cpu")).startswith("cpu/")


# The digests that are kept.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(5000))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / "cache", least=0)


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass since files were written."""
    real = hashing.time.time_ns
    monkeypatch.setattr(hashing.time, "time_ns", lambda: real() + LATER_NS)


def unreadable(*_: object) -> None:
    raise AssertionError("the file is read again")


def test_a_digest_is_paid_once(file: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file_digest(file, cache) == expected
    monkeypatch.setattr(hashing.hashlib, "file_digest", unreadable)
    assert file_digest(file, cache) == expected


def test_an_edit_within_one_tick_is_noticed(file: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    state = file_state(file)
    monkeypatch.setattr(hashing, "file_state", lambda path: state)  # to the system it is the same file
    first = file_digest(file, cache)
    content = bytearray(file.read_bytes())
    content[2500] ^= 1
    file.write_bytes(content)
    assert file_digest(file, cache) == hashlib.sha256(content).hexdigest() != first


def test_an_edit_whose_time_is_set_back_is_noticed(
    file: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    first, state = file_digest(file, cache), file_state(file)
    content = bytearray(file.read_bytes())
    content[2500] ^= 1
    for _ in range(100_000):  # until the file system's clock ticks
        file.write_bytes(content)
        if file.stat().st_ctime_ns != state.ctime_ns:
            break
    os.utime(file, ns=(state.mtime_ns, state.mtime_ns))
    assert file_state(file).mtime_ns == state.mtime_ns
    assert file_digest(file, cache) == hashlib.sha256(content).hexdigest() != first


@given(offset=st.integers(0), bits=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_damaged_entry_is_never_believed(
    offset: int, bits: int, tmp_path_factory: pytest.TempPathFactory, golden_folder: Path
) -> None:
    cache = DigestCache(tmp_path_factory.getbasetemp() / "damaged", least=0)
    path = golden_folder / "base" / "config.json"
    state, digest = file_state(path), "ab" * 32
    cache.put(path, state, digest)
    (entry,) = cache.folder.iterdir()  # type: ignore[union-attr]
    assert cache.get(path, state) == digest
    altered.flipped(entry.name, offset, bits)(entry.parent)
    assert cache.get(path, state) in (None, digest)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"5", b"{}", b'{"sha256": 5}', b"[" * 100000, b"\xff"])
def test_a_foreign_entry_is_not_believed(
    content: bytes, file: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    expected = file_digest(file, cache)
    (entry,) = cache.folder.iterdir()  # type: ignore[union-attr]
    entry.write_bytes(content)
    assert file_digest(file, cache) == expected


def test_another_files_entry_is_not_believed(
    file: Path, cache: DigestCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    file_digest(file, cache)
    (entry,) = cache.folder.iterdir()  # type: ignore[union-attr]
    content = json.loads(entry.read_text())
    content["sha256"] = "00" * 32
    entry.write_text(json.dumps(content))
    assert cache.get(file, file_state(file)) is None


def test_a_cache_that_cannot_be_written_costs_only_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", Path("/proc/nowhere"), None):
        cache = DigestCache(folder, least=0)
        assert file_digest(file, cache) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache().folder == tmp_path / "entitrack" / "digests"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given_folder in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", given_folder)
        assert user_cache().folder == tmp_path / "home" / ".cache" / "entitrack" / "digests"


def test_a_file_that_keeps_changing_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashlib.file_digest

    def meanwhile(stream: Any, name: str) -> Any:
        with file.open("ab") as end:
            end.write(b"x")
        return real(stream, name)

    monkeypatch.setattr(hashing.hashlib, "file_digest", meanwhile)
    with pytest.raises(UserError, match=r"^model: '.*weights' changes while it is read; wait until it is written"):
        file_digest(file, NONE)
