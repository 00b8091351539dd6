"""The instructions in `data.pkl`, followed by a machine that can make plain values and nothing else.

1. What `torch.save` writes is a program for a stack machine; Python's own machine for it imports and calls whatever
   the program names.
2. This one knows the thirty instructions that plain containers, numbers, texts and tensors are written with. Every
   other one is refused.
3. A name stands for an entry of a table that the caller gives; a name that is not in it is refused. Nothing is
   imported.
4. Steps, lengths of texts and sizes of numbers are bounded, and dictionaries have keys that cannot be made to collide.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from entitrack.runtime.ndif.saying import one_line

_STEPS = 300_000
_TEXT = 1 << 20
_WHOLE_NUMBER = 8
_NAME = 200
_PROTOCOLS = (2, 4)

_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_EMPTY: dict[bytes, Callable[[], Any]] = {b"}": dict, b"]": list, b")": tuple}
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_TEXTS = {b"\x8c": "<B", b"X": "<I", b"\x8d": "<Q"}
_BYTES = {b"C": "<B", b"B": "<I", b"\x8e": "<Q"}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUT = {b"q": "<B", b"r": "<I"}
_GET = {b"h": "<B", b"j": "<I"}


class CorruptResult(Exception):
    """A result that cannot be read; the text is one line."""


@dataclass(frozen=True)
class Maker:
    """What a name in the program stands for if it is called.

    Attributes:
        make: Called with the arguments that the program gives; it checks them.
    """

    make: Callable[..., Any]


def run_program(program: bytes, names: Mapping[tuple[str, str], Any], load: Callable[[Any], Any] | None = None) -> Any:
    """The value that a pickled program builds.

    Args:
        program: The content of `data.pkl`.
        names: (module, name) -> what it stands for: a `Maker` if it may be called, anything else is only handed on.
        load: What a reference to something outside of the program stands for; without it there may be none.

    Raises:
        CorruptResult: An instruction, name or size is not allowed, or the program is not whole.
    """
    machine = _Machine(memoryview(program), names, load)
    try:
        return machine.run()
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        raise CorruptResult(f"its structure is damaged at byte {machine.at} ({type(error).__name__})") from error


class _Machine:
    """A stack, marks in it, and a memory of values to use again."""

    def __init__(
        self, program: memoryview, names: Mapping[tuple[str, str], Any], load: Callable[[Any], Any] | None
    ) -> None:
        self.program, self.names, self.load = program, names, load
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def run(self) -> Any:
        """Follow the program to its end."""
        for _ in range(_STEPS):
            instruction = bytes(self.take(1))
            if instruction == b".":
                (value,) = self.stack
                return value
            self.follow(instruction)
        raise CorruptResult(f"its structure takes more than {_STEPS:,} steps")

    def follow(self, instruction: bytes) -> None:
        """One instruction: those with a value in the program, then those that work on the stack."""
        if instruction in _CONSTANTS:
            self.stack.append(_CONSTANTS[instruction])
        elif instruction in _EMPTY:
            self.stack.append(_EMPTY[instruction]())
        elif instruction in _NUMBERS:
            self.stack.append(self.number(_NUMBERS[instruction]))
        elif instruction in _TEXTS:
            self.stack.append(str(self.take(self.number(_TEXTS[instruction]), _TEXT), "utf-8"))
        elif instruction in _BYTES:
            self.stack.append(bytes(self.take(self.number(_BYTES[instruction]))))
        elif instruction in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[instruction])))
        elif instruction in _PUT:
            self.memory[self.number(_PUT[instruction])] = self.stack[-1]
        elif instruction in _GET:
            self.stack.append(self.memory[self.number(_GET[instruction])])
        elif instruction in _WORKS:
            _WORKS[instruction](self)
        else:
            raise CorruptResult(f"it holds an instruction that results do not need (0x{instruction.hex()})")

    def take(self, count: int, most: int | None = None) -> memoryview:
        """The next bytes of the program."""
        if most is not None and count > most:
            raise CorruptResult(f"it holds a text of {count:,} bytes")
        if count > len(self.program) - self.at:
            raise CorruptResult("its structure ends early")
        self.at += count
        return self.program[self.at - count : self.at]

    def number(self, form: str) -> Any:
        """A number of fixed size."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def pop(self, count: int) -> list[Any]:
        """The uppermost values of the stack, removed; none of those below the last mark."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise IndexError
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_mark(self) -> list[Any]:
        """The values above the last mark, removed with it."""
        start = self.marks[-1]
        values = self.pop(len(self.stack) - start)
        self.marks.pop()
        return values

    def protocol(self) -> None:
        """The version of the language."""
        if self.number("<B") not in _PROTOCOLS:
            raise ValueError

    def long(self) -> None:
        """A whole number of up to eight bytes."""
        count = self.number("<B")
        if count > _WHOLE_NUMBER:
            raise CorruptResult(f"it holds a number of {count} bytes")
        self.stack.append(int.from_bytes(self.take(count), "little", signed=True))

    def name_in_lines(self) -> None:
        """A name of two lines: the module and what is in it."""
        rest = bytes(self.program[self.at : self.at + 2 * _NAME])
        module, name, _ = rest.split(b"\n", 2)
        self.take(len(module) + len(name) + 2)
        self.push_name(module.decode("utf-8"), name.decode("utf-8"))

    def name_on_stack(self) -> None:
        """A name whose two parts are on the stack."""
        self.push_name(*self.pop(2))

    def push_name(self, module: str, name: str) -> None:
        """What a name stands for."""
        if (module, name) not in self.names:
            raise CorruptResult(f"it asks for {one_line(f'{module}.{name}', 80)}, which results do not need")
        self.stack.append(self.names[module, name])

    def call(self) -> None:
        """Make a value of a kind that may be made."""
        maker, arguments = self.pop(2)
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise TypeError
        self.stack.append(maker.make(*arguments))

    def reference(self) -> None:
        """Something outside of the program."""
        if self.load is None:
            raise CorruptResult("it refers to something outside of itself")
        self.stack.append(self.load(*self.pop(1)))

    def append(self, values: list[Any]) -> None:
        """Add values to the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise TypeError
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Add names and values, in turns, to the dictionary on top of the stack."""
        keys = values[::2]
        if type(self.stack[-1]) is not dict or not all(type(key) in (str, int) for key in keys):
            raise TypeError
        self.stack[-1].update(zip(keys, values[1::2], strict=True))


_WORKS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"\x95": lambda machine: machine.number("<Q"),  # a frame: only a hint of how much to read at a time
    b"(": lambda machine: machine.marks.append(len(machine.stack)),
    b"\x8a": _Machine.long,
    b"\x94": lambda machine: machine.memory.update({len(machine.memory): machine.stack[-1]}),
    b"t": lambda machine: machine.stack.append(tuple(machine.pop_mark())),
    b"a": lambda machine: machine.append(machine.pop(1)),
    b"e": lambda machine: machine.append(machine.pop_mark()),
    b"s": lambda machine: machine.set_items(machine.pop(2)),
    b"u": lambda machine: machine.set_items(machine.pop_mark()),
    b"c": _Machine.name_in_lines,
    b"\x93": _Machine.name_on_stack,
    b"R": _Machine.call,
    b"Q": _Machine.reference,
}
