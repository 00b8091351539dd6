"""Results and states that are none: nothing in them is executed, kept, or takes more memory than allowed."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from nnsight.schema.response import ResponseModel

from entitrack.runtime.ndif.payload import CorruptResult, unpack, unpack_state
from tests.hostile.replies import (
    ANSI,
    CANARY,
    MIB,
    RESULT_PAGE,
    STATE_PAGE,
    Client,
    answers,
    check_line,
    compressed,
    good_result,
    good_values,
    lied,
    lied_tensor,
    little_memory,
    members,
    number,
    refused,
    result_of,
    rezipped,
    saved,
    state,
    tensor,
    text,
)
from tests.remote.harness import largest_difference

ONE, FOUR, NONE = number(1), number(4), b")"


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def trap_program(function: str) -> bytes:
    """A program that calls a function by its name, with the canary's."""
    module, _, name = function.rpartition(".")
    return result_of(f"c{module}\n{name}\n".encode() + b"(" + text(f"touch {CANARY}") + b"tR")


class Touching(torch.nn.Module):
    """Makes the canary when TorchScript loads it."""

    def __init__(self) -> None:
        super().__init__()
        self.made = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[bool, torch.Tensor]:
        return (self.training, torch.zeros(1))

    @torch.jit.export
    def __setstate__(self, state: tuple[bool, torch.Tensor]) -> None:
        self.training = state[0]
        self.made = torch.from_file("sprung", True, 4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


@cache
def torch_script() -> bytes:
    """An archive that runs code when TorchScript reads it."""
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(Touching()), stream)
    return stream.getvalue()


def with_constants() -> bytes:
    """A good result that TorchScript would take for its own."""
    whole = saved({"result": good_values()})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    return rezipped(
        {**contents, "archive/constants.pkl": b"\x80\x02).", "archive/code/__torch__.py": b"op_version_set = 1"}
    )


def replaced(name: str, content: bytes) -> bytes:
    """A good result in which one member is another."""
    with zipfile.ZipFile(io.BytesIO(saved({"result": good_values()}))) as archive:
        contents = {entry: archive.read(entry) for entry in archive.namelist()}
    return compressed(rezipped({**contents, f"archive/{name}": content}))


def doubled() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in [*members(result_of(ONE)).items(), *members(trap_program("os.system")).items()]:
            archive.writestr(name, content)
    return compressed(stream.getvalue())


def overlapping() -> bytes:
    """Two members in one place: the directory's entry of the second points at the first."""
    whole = bytearray(rezipped(members(result_of(ONE), {"0": b"a" * 16, "1": b"a" * 16})))
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", whole)]
    first, second = (
        next(at for at in entries if whole[at + 46 :].startswith(b"archive/data/" + n)) for n in (b"0", b"1")
    )
    whole[second + 42 : second + 46] = whole[first + 42 : first + 46]
    return compressed(bytes(whole))


def deep(count: int, begin: bytes, end: bytes, core: bytes) -> bytes:
    return lied(result_of(begin * count + core + end * count))


def bushy(levels: int, branches: int) -> bytes:
    """The instructions that push a tuple of which every entry is one and the same tuple, and so on."""
    again = [(b"h" + bytes([level])) * (branches - 1) + b"t" for level in range(levels)]
    return b"(" * levels + b"]" + b"".join(b"q" + bytes([level]) + again[level] for level in range(levels))


def in_many_places(size: int, times: int) -> bytes:
    """One tensor that is little in the archive, in many places of a list."""
    large = tensor(number(size) + b"\x85", number(0) + b"\x85")
    return lied(result_of(b"](" + large + b"q\x01" + b"h\x01" * times + b"e"), {"0": bytes(16)})


@pytest.mark.filterwarnings("ignore")
def test_the_archive_of_torch_script_is_a_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of it below would otherwise be said of nothing."""
    monkeypatch.chdir(tmp_path)
    torch.jit.load(io.BytesIO(torch_script()))
    assert CANARY.exists()


RESULTS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no frame": lambda: b"x" * 1000,
    "html": lambda: b"<html>expired</html>",
    "half": lambda: good_result(5000)[:-400],
    "no archive": lambda: compressed(b"no archive"),
    "not compressed": lambda: saved({"result": good_values()}),
    "an older format of torch": lambda: compressed(saved({}, _use_new_zipfile_serialization=False)),
    "a bare pickle": lambda: compressed(pickle.dumps({"result": {}})),
    "TorchScript": lambda: compressed(torch_script()),
    "TorchScript around a result": lambda: compressed(with_constants()),
    "no result": lambda: compressed(saved({"other": good_values()})),
    "an empty result": lambda: compressed(saved({"result": {}})),
    "a list": lambda: compressed(saved([1, 2])),
    "a tensor": lambda: compressed(saved(torch.ones(3))),
    "a result that is a list": lambda: compressed(saved({"result": [torch.ones(3)]})),
    "a result that is a tensor": lambda: compressed(saved({"result": torch.ones(3)})),
    "names that are numbers": lambda: compressed(saved({"result": {1: torch.ones(3)}})),
    "a name that is a tuple": lambda: compressed(saved({"result": {"a": {(1, 2): 3}}})),
    "bytes": lambda: compressed(saved({"result": {"a": b"raw"}}, pickle_protocol=4)),
    "a set": lambda: compressed(saved({"result": {"a": {1, 2}}}, pickle_protocol=4)),
    "a whole module": lambda: compressed(saved({"result": {"a": torch.nn.Linear(1, 1)}})),
    "a parameter": lambda: compressed(saved({"result": {"a": torch.nn.Parameter(torch.ones(1))}})),
    "a sparse tensor": lambda: compressed(saved({"result": {"a": torch.eye(2).to_sparse()}})),
    "a quantized tensor": lambda: compressed(
        saved({"result": {"a": torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)}})
    ),
    "a complex tensor": lambda: compressed(saved({"result": {"a": torch.ones(2, dtype=torch.complex64)}})),
    "a conjugated view": lambda: lied_tensor(NONE, NONE, metadata=b"}" + text("conj") + b"\x88s"),
    "a dtype as a value": lambda: lied(result_of(b"ctorch\nFloatStorage\n")),
    "a function as a value": lambda: lied(result_of(b"ctorch._utils\n_rebuild_tensor_v2\n")),
    "a state in a result": lambda: compressed(saved({"result": {"a": ResponseModel(id="a", status="ERROR").status}})),
    "a trap: Path.touch": lambda: compressed(saved({"result": Trap(Path.touch, CANARY)})),
    "a trap: os.system": lambda: compressed(saved({"result": {"a": Trap(os.system, f"touch {CANARY}")}})),
    "a trap: eval": lambda: compressed(saved({"result": Trap(eval, f"open('{CANARY}', 'w')")}, pickle_protocol=4)),
    "a trap: posix.system by name": lambda: lied(trap_program("posix.system")),
    "a trap: subprocess by name": lambda: lied(trap_program("subprocess.getoutput")),
    "a trap: torch's own": lambda: lied(trap_program("torch.hub.load")),
    "a trap: torch.storage": lambda: lied(trap_program("torch.storage._load_from_bytes")),
    "a trap: a name with escapes": lambda: lied(trap_program(f"os.{ANSI.replace(chr(10), ' ')}")),
    "a trap: a name without an end": lambda: lied(result_of(b"cos" + b"x" * 5000)),
    "a trap: getattr": lambda: lied(trap_program("builtins.getattr")),
    "a trap: an instance": lambda: lied(result_of(b"(ios\nsystem\n")),
    "a trap: an object": lambda: lied(result_of(b"cos\nsystem\n)\x81")),
    "a trap: a state to set": lambda: lied(result_of(b"}}b")),
    "a trap: an extension": lambda: lied(result_of(b"\x82\x01")),
    "a trap: calling a dtype": lambda: lied(result_of(b"ctorch\nFloatStorage\n)R")),
    "a trap: calling a table": lambda: lied(result_of(b"})R")),
    "a dictionary with a factory": lambda: lied(result_of(b"ccollections\nOrderedDict\n(]tR")),
    "a default dictionary": lambda: lied(result_of(b"ccollections\ndefaultdict\n)R")),
    "a reference to a file": lambda: lied(result_of(text("/etc/passwd") + b"Q")),
    "a reference in words": lambda: lied(result_of(b"P/etc/passwd\n")),
    "a reference to another module": lambda: lied(result_of(b"(" + text("module") + NONE + NONE + NONE + NONE + b"tQ")),
    "a storage that leaves the archive": lambda: lied_tensor(NONE, NONE, place="../version"),
    "a storage that is not there": lambda: lied_tensor(NONE, NONE, place="7"),
    "a storage of an unknown kind": lambda: lied_tensor(NONE, NONE, kind="QInt8Storage"),
    "a storage longer than it is": lambda: lied_tensor(NONE, NONE, count=number(5)),
    "a storage of odd length": lambda: lied(result_of(tensor(NONE, NONE)), {"0": bytes(15)}),
    "a truth value of two": lambda: lied(result_of(tensor(NONE, NONE, kind="BoolStorage")), {"0": b"\0\1\2\0"}),
    "a negative offset": lambda: lied_tensor(NONE, NONE, number(-1)),
    "an offset beyond the end": lambda: lied_tensor(NONE, NONE, number(4)),
    "a size beyond the end": lambda: lied_tensor(number(5) + b"\x85", ONE + b"\x85"),
    "a stride beyond the end": lambda: lied_tensor(number(2) + b"\x85", FOUR + b"\x85"),
    "a stride around the end of numbers": lambda: lied_tensor(number(3) + b"\x85", number(2**62) + b"\x85"),
    "a negative size": lambda: lied_tensor(number(-4) + b"\x85", ONE + b"\x85"),
    "a negative stride": lambda: lied_tensor(FOUR + b"\x85", number(-1) + b"\x85"),
    "a size that is a text": lambda: lied_tensor(text("4"), text("1")),
    "a size of numbers with a point": lambda: lied_tensor(b"G" + struct.pack(">d", 2) + b"\x85", ONE + b"\x85"),
    "a size of truth values": lambda: lied_tensor(b"\x88\x85", ONE + b"\x85"),
    "fewer strides than sizes": lambda: lied_tensor(FOUR + ONE + b"\x86", ONE + b"\x85"),
    "ninety dimensions": lambda: lied_tensor(b"(" + ONE * 90 + b"t", b"(" + ONE * 90 + b"t"),
    "much out of little": lambda: lied_tensor(number(2**40) + b"\x85", number(0) + b"\x85"),
    "more than can be counted": lambda: lied_tensor(b"(" + number(2**60) * 9 + b"t", b"(" + number(0) * 9 + b"t"),
    "an empty tensor of absurd size": lambda: lied_tensor(number(0) + number(2**62) * 2 + b"\x87", ONE * 3 + b"\x87"),
    "much out of little, often": lambda: lied(
        result_of(b"](" + tensor(number(MIB) + b"\x85", number(0) + b"\x85") * 300 + b"e"), {"0": bytes(16)}
    ),
    "one tensor in many places": lambda: in_many_places(MIB, 1000),
    "a list in itself": lambda: lied(result_of(b"]q\x01h\x01a")),
    "a table in itself": lambda: lied(result_of(b"}q\x01" + text("a") + b"h\x01s")),
    "lists in lists": lambda: deep(50_000, b"](", b"e", ONE),
    "tuples in tuples": lambda: deep(50_000, b"", b"\x85", ONE),
    "a bush of two branches": lambda: lied(result_of(bushy(60, 2))),
    "a bush of a hundred branches": lambda: lied(result_of(bushy(12, 100))),
    "a number of a megabyte": lambda: lied(result_of(b"\x8b" + struct.pack("<i", MIB) + b"\x7f" * MIB)),
    "a number of 255 bytes": lambda: lied(result_of(b"\x8a\xff" + b"\x7f" * 255)),
    "a number in digits": lambda: lied(result_of(b"I" + b"9" * 100_000 + b"\n")),
    "a text that is not there": lambda: lied(result_of(b"\x8d" + struct.pack("<Q", 2**62))),
    "bytes that are not there": lambda: lied(result_of(b"\x8e" + struct.pack("<Q", 2**40))),
    "a byte array that is not there": lambda: lied(result_of(b"\x96" + struct.pack("<Q", 2**35))),
    "a text of ten megabytes": lambda: lied(result_of(text("x" * (10 * MIB)))),
    "a text that is no text": lambda: lied(result_of(b"X\2\0\0\0\xff\xff")),
    "a place in memory far away": lambda: lied(result_of(b"]r\xff\xff\xff\x7fj\xff\xff\xff\x7e")),
    "a place in memory that is empty": lambda: lied(result_of(b"j\0\0\0\1")),
    "a frame that is not there": lambda: lied(b"\x80\x04\x95" + struct.pack("<Q", 2**62)),
    "ten million steps": lambda: lied(result_of(b"](" + b"]" * (10 * MIB) + b"e")),
    "marks without end": lambda: lied(result_of(b"(" * 2 * MIB)),
    "an empty program": lambda: lied(b""),
    "a program that only ends": lambda: lied(b"."),
    "a program that leaves two": lambda: lied(b"\x80\x02}}."),
    "a program without an end": lambda: lied(result_of(ONE)[:-1]),
    "a program that digs below a mark": lambda: lied(result_of(b"](ae")),
    "odd entries of a table": lambda: lied(result_of(b"}(" + text("a") + b"u")),
    "entries of no table": lambda: lied(result_of(b"](" + text("a") + ONE + b"u")),
    "entries of no list": lambda: lied(result_of(b"}(" + ONE + b"e")),
    "protocol 5": lambda: lied(b"\x80\x05" + result_of(ONE)[2:]),
    "another version": lambda: replaced("version", b"10\n"),
    "another byte order": lambda: replaced("byteorder", b"big" if sys.byteorder == "little" else b"little"),
    "a byte order that is none": lambda: replaced("byteorder", b"\xff"),
    "no byte order": lambda: compressed(rezipped({"archive/data.pkl": result_of(ONE), "archive/version": b"3\n"})),
    "no structure": lambda: compressed(
        rezipped({"archive/version": b"3\n", "archive/byteorder": sys.byteorder.encode()})
    ),
    "a member outside": lambda: replaced("../../../sprung", b"x"),
    "a member with escapes": lambda: replaced("data/\x1b[31m", b"x"),
    "members in two folders": lambda: compressed(rezipped({**members(result_of(ONE)), "other/data/0": b"x"})),
    "compressed members": lambda: compressed(
        rezipped(members(result_of(ONE), {"0": bytes(MIB)}), zipfile.ZIP_DEFLATED)
    ),
    "doubled members": doubled,
    "overlapping members": overlapping,
    "a hundred thousand members": lambda: compressed(rezipped({f"archive/data/{n}": b"" for n in range(30_000)})),
    "a frame of zeros": lambda: zstandard.compress(bytes(600 * MIB)),
    "a storage of zeros": lambda: lied(result_of(ONE), {"0": bytes(300 * MIB)}),
}
REASONS = {
    "a size beyond the end": "a tensor that reaches beyond its bytes",
    "a stride around the end of numbers": "a tensor that reaches beyond its bytes",
    "an offset beyond the end": "a tensor that reaches beyond its bytes",
    "compressed members": "is compressed",
    "overlapping members": "lies in another",
    "doubled members": "is there twice",
    "a hundred thousand members": "more than 20,000 members",
    "TorchScript": "a member 'code/__torch__",
    "TorchScript around a result": "a member 'c",
    "a trap: os.system": "asks for posix.system",
    "a trap: torch's own": "asks for torch.hub.load",
    "one tensor in many places": "tensors take more than",
    "much out of little": "tensors take more than",
    "a bush of two branches": "nested too deep",
    "a bush of a hundred branches": "too many entries",
    "ten million steps": "more than 300,000 steps",
    "a frame of zeros": "unpacks to more than",
}
"""What is said of some of them: another check would refuse most of them later, and after more work."""

LARGE = "too large|unpacks to more|take more"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", RESULTS)
def test_a_result_that_is_none_is_said_in_a_line(client: Client, case: str) -> None:
    content = RESULTS[case]()
    client.server.pages[RESULT_PAGE] = answers(content)
    client.settings["max_result_bytes"] = 32 * MIB
    with little_memory(200 * MIB):
        said = refused(client)
    assert re.search("is damaged, 2 times over|" + LARGE, said)
    with pytest.raises(CorruptResult) as caught:
        unpack(content, 32 * MIB)
    check_line(str(caught.value))
    assert REASONS.get(case, "") in str(caught.value)
    assert not CANARY.exists()


STATES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a bare pickle": lambda: pickle.dumps(state()),
    "an older format of torch": lambda: saved(state(), _use_new_zipfile_serialization=False),
    "TorchScript": torch_script,
    "a trap": lambda: saved(state(data=Trap(os.system, f"touch {CANARY}"))),
    "a trap as a status": lambda: saved(state(status=Trap(Path.touch, CANARY))),
    "a trap by name": lambda: rezipped(members(trap_program("os.system"))),
    "a list": lambda: saved([1]),
    "no id": lambda: saved({"status": "COMPLETED"}),
    "an id that is a tensor": lambda: saved(state(id=torch.ones(1))),
    "a name that is a number": lambda: saved({**state(), 1: 2}),
    "another job": lambda: saved(state(id="f" * 16)),
    "an unknown status": lambda: rezipped(
        members(b"\x80\x02cnnsight.schema.response\nStatus\n(" + text("GONE\x1b") + b"tR.")
    ),
    "a status of three": lambda: rezipped(members(b"\x80\x02cnnsight.schema.response\nStatus\n(NNNtR.")),
    "a response itself": lambda: rezipped(members(b"\x80\x02cnnsight.schema.response\nResponseModel\n)R.")),
    "bytes that are not there": lambda: rezipped(members(b"\x80\x04\x8e" + struct.pack("<Q", 2**40))),
    "deep": lambda: rezipped(members(b"\x80\x02" + b"](" * 50_000 + b"e" * 50_000 + b".")),
    "too large": lambda: saved(state(data=bytes(3 * MIB)), pickle_protocol=4),
    "a result inside that is none": lambda: saved(state(data=b"nothing"), pickle_protocol=4),
    "data that is a table": lambda: saved(state(data={"a": 1})),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", STATES)
def test_a_state_in_binary_form_that_is_none_is_said_in_a_line(client: Client, case: str) -> None:
    client.server.pages[STATE_PAGE] = answers(STATES[case](), content_type="application/octet-stream")
    client.settings["max_result_bytes"] = 2 * MIB
    refused(client)


@pytest.mark.parametrize("part", ["missing", "of another kind", "too much"])
def test_a_result_that_is_another_one_is_not_kept_and_the_unit_is_submitted_anew(client: Client, part: str) -> None:
    """First it is fetched once more, by another run; then the job is given up."""
    values: dict[str, Any] = good_values()
    changed = {"missing": {"prediction": values["prediction"]}, "of another kind": {**values, "probability": [1.5]}}
    wrong = changed.get(part, {**values, "\x1b[31m" + "x" * 10_000: torch.ones(1)})
    client.server.pages[RESULT_PAGE] = answers(compressed(saved({"result": wrong})))
    for submitted in (1, 1, 2):
        assert "is damaged" in refused(client)
        assert sum(request.url.path == "/request" for request in client.server.requests) == submitted
    client.server.pages = {}
    assert largest_difference(client.run(), values) == 0


def test_a_state_in_binary_form_brings_its_result(client: Client) -> None:
    whole = ResponseModel(**state(data=good_result(), meta={"seconds": 1.5})).pickle()
    client.server.pages[STATE_PAGE] = answers(whole, content_type="application/octet-stream")
    assert largest_difference(client.run(), good_values()) == 0
    assert unpack_state(whole).meta == {"seconds": 1.5}


def test_every_kind_of_tensor_that_a_method_gives_arrives_as_it_is() -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    values = {
        "views": [base[:, 1], base.mT, base[::2, :, 1:], base.expand(2, 3, 4), base[0, 0, 0].expand(5)],
        "kinds": tuple(
            base.to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32)
        ),
        "small": {"byte": base.to(torch.uint8), "bool": base > 3, "int8": base.to(torch.int8), "int16": base.short()},
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "gradient": torch.ones(2, requires_grad=True),
    }
    plain = [1, -(2**40), 2.5, "text", None, True, OrderedDict(a=1), (2, "é")]
    for protocol in (2, 4):
        whole = {"result": {**values, "plain": plain}}
        read = unpack(compressed(saved(whole, pickle_protocol=protocol)))
        assert read.pop("plain") == plain
        assert largest_difference(read, values) == 0
        assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in read["views"])
