"""Pickles of arrays and plain containers, read by an interpreter of their opcodes.

Nothing that a file names is imported or called. The interpreter builds None, numbers, text, bytes, lists, tuples,
dictionaries, and entries for arrays, which are checked in `buffers` and read when they are needed. All other objects
are refused.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fidfast._files.objects import (
    FUNCTIONS,
    MAPPINGS,
    MAX_INTEGER,
    NAMES,
    BuiltObject,
    Function,
    Name,
    Objects,
    PickleError,
    PlainMapping,
    decimal,
    plain_value,
    require,
    set_item,
)

__all__ = ["read_pickle"]

#: Number of opcodes; a list of 2048 x 2048 numbers has 4 million.
_MAX_OPERATIONS = 10_000_000
#: Number of items or characters that may be copied any number of times.
_SHORT = 100
#: Depth of open containers.
_MAX_MARKS = 1000


def read_pickle(
    data: bytes,
    start: int = 0,
    *,
    functions: Mapping[str, Function] | None = None,
    names: frozenset[str] = frozenset(),
    persistent: Function | None = None,
) -> tuple[Any, int]:
    """The object of a pickle, and the position after it.

    Parameters
    ----------
    data : bytes
        The file.
    start : int, default 0
        Position of the pickle.
    functions : mapping, optional
        Functions by the names that pickles give them, besides those of NumPy. They check their arguments.
    names : set of str, optional
        Further names, which are only arguments of functions.
    persistent : callable, optional
        Returns the object of a persistent id.

    Raises
    ------
    PickleError
        If the pickle is damaged, needs another class or function, or is too large or too deep.
    """
    interpreter = _Interpreter(memoryview(data), start, {**FUNCTIONS, **(functions or {})}, names, persistent)
    value = interpreter.run()
    return plain_value(value, interpreter.operations), interpreter.position


class _Interpreter:
    """Runs the opcodes of one pickle."""

    def __init__(
        self,
        data: memoryview,
        position: int,
        functions: Mapping[str, Function],
        names: frozenset[str],
        persistent: Function | None,
    ) -> None:
        self._data = data
        self._functions = functions
        self._names = names
        self._persistent = persistent
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}
        self.position = position
        self.operations = 0
        self._copied = 0

    def run(self) -> Any:
        data, opcodes = self._data, _OPCODES
        while self.operations < _MAX_OPERATIONS:
            self.operations += 1
            position = self.position
            if position >= len(data):
                raise PickleError("it is damaged or incomplete")
            code = data[position]
            self.position = position + 1
            operation = opcodes.get(code)
            if operation is None:
                if code != _STOP:
                    raise PickleError(f"it is damaged, or needs opcode {bytes([code])!r}, which is not supported")
                return self._pop()
            try:
                operation(self)
            except PickleError:
                raise
            except ValueError as error:
                raise PickleError(str(error)) from error
            except (TypeError, LookupError, struct.error, OverflowError) as error:
                raise PickleError(f"it is damaged at byte {position:,} ({error})") from error
        raise PickleError(f"it has more than {_MAX_OPERATIONS:,} opcodes")

    # The file

    def _take(self, size: int) -> memoryview:
        end = self.position + size
        if size < 0 or end > len(self._data):
            raise PickleError("it is damaged or incomplete")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, layout: str) -> Any:
        layout = "<" + layout
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        end = self.position
        while True:  # of a memoryview, in parts
            part = bytes(self._data[end : end + 256])
            if not part:
                raise PickleError("it is damaged or incomplete")
            found = part.find(b"\n")
            if found >= 0:
                break
            end += len(part)
        return str(bytes(self._take(end + found + 1 - self.position)[:-1]), "latin1")

    # The stack

    def _pop(self) -> Any:
        if not self._stack:
            raise PickleError("it is damaged: a value is missing")
        return self._stack.pop()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        require(len(self._outer) < _MAX_MARKS, f"a depth of {_MAX_MARKS} containers")
        self._outer.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._outer.pop()
        return items

    def _pop_or_unmark(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    # Containers

    def _tuple(self, size: int) -> None:
        require(len(self._stack) >= size, "a tuple")
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        require(type(target) is list, "a list")
        target.extend(items)

    def _set_items(self, items: list[Any], target: Any) -> None:
        require(isinstance(target, dict) and len(items) % 2 == 0, "a dictionary")
        for i in range(0, len(items), 2):
            set_item(target, items[i], items[i + 1])

    def _set(self) -> None:
        """Sets are not read: hashing values may be expensive."""
        self._push(Objects((), []))

    def _dict(self) -> None:
        items = self._pop_mark()
        result: dict[str, Any] = {}
        self._set_items(items, result)
        self._push(result)

    def _append(self) -> None:
        self._extend([self._pop()])

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value], self._stack[-1])

    # Numbers and text

    def _int(self) -> None:
        text = self._line()
        self._push(text == "01" if text in ("00", "01") else decimal(text))

    def _long(self, size: int) -> None:
        if size > MAX_INTEGER:
            raise PickleError(f"it has an integer of {size:,} bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _binary_float(self) -> None:
        """Reads all such opcodes that follow each other, as in long lists."""
        start = self.position - 1
        self._stack.append(struct.unpack(">d", self._take(8))[0])
        if bytes(self._data[self.position : self.position + 1]) != b"G":
            return
        items: Any = np.frombuffer(self._data[start : start + _FLOATS * _FLOAT.itemsize], np.uint8)
        items = items[: len(items) // _FLOAT.itemsize * _FLOAT.itemsize].view(_FLOAT)
        others = np.flatnonzero(items["opcode"] != ord("G"))
        values = items["value"][1 : others[0] if len(others) else len(items)].tolist()
        self._stack.extend(values)
        self.operations += len(values)
        self.position += _FLOAT.itemsize * len(values)

    def _float(self) -> None:
        text = self._line()
        try:
            self._push(float(text[:100]))
        except ValueError:
            raise PickleError(f"{text[:50]!r} is not a number") from None

    def _quoted(self) -> None:
        text = self._line().strip()
        require(len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"", "a string")
        try:
            self._push(str(codecs.escape_decode(text[1:-1].encode("latin1"))[0], "latin1"))
        except ValueError:
            raise PickleError("a string is damaged") from None

    def _text(self, size: int) -> None:
        self._push(str(self._take(size), "utf-8", "surrogatepass"))

    def _bytes(self, size: int) -> None:
        data = self._take(size)
        self._push(data if size > 1024 else bytes(data))  # a view needs more memory than a few bytes

    def _buffer(self) -> None:
        raise PickleError("its arrays are stored outside of it (buffer_callback)")

    # The memo

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    # Objects

    def _protocol(self) -> None:
        if (version := self._take(1)[0]) > 5:
            raise PickleError(f"it has protocol {version}, but at most 5 is supported")

    def _frame(self) -> None:
        size = self._number("Q")
        if size > len(self._data) - self.position:
            raise PickleError("it is damaged or incomplete")

    def _named(self, module: Any, name: Any) -> None:
        require(isinstance(module, str) and isinstance(name, str), "a name")
        full = f"{module}.{name}"
        if full not in self._functions and full not in NAMES and full not in self._names:
            raise PickleError(f"it needs {full[:200]}, but only arrays and plain containers are read")
        self._push(Name(full))

    def _global(self) -> None:
        self._named(self._line(), self._line())

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._named(module, name)

    def _charge(self, values: Any) -> None:
        """Count the items and characters that are copied; honest files have no value twice among such arguments."""
        for value in values if isinstance(values, tuple) else ():
            if isinstance(value, (str, list, dict)) and len(value) > _SHORT:
                self._copied += len(value)
        if self._copied > len(self._data):
            raise PickleError("it copies its values again and again")

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._charge(arguments)
        require(isinstance(function, Name) and isinstance(arguments, tuple), "a call")
        if function.name not in self._functions:
            raise PickleError(f"it calls {function.name}, but only arrays and plain containers are read")
        self._push(self._functions[function.name](*arguments))

    def _new_object(self) -> None:
        arguments, kind = self._pop(), self._pop()
        require(isinstance(kind, Name) and kind.name in MAPPINGS and arguments == (), "an object")
        self._push(PlainMapping())

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        self._charge(state)
        require(isinstance(target, BuiltObject), "the state of an object")
        target.build(state)

    def _persistent_id(self, value: Any) -> None:
        if self._persistent is None:
            raise PickleError("it needs objects that are stored outside of it")
        self._push(self._persistent(value))


_STOP = ord(".")
#: A number with its opcode, and how many are read together.
_FLOAT = np.dtype([("opcode", "u1"), ("value", ">f8")])
_FLOATS = 1000

_Self = _Interpreter
_OPCODES: dict[int, Callable[[_Interpreter], Any]] = {
    ord(code): operation
    for code, operation in {
        # numbers
        "N": lambda self: self._push(None),
        "\x88": lambda self: self._push(True),
        "\x89": lambda self: self._push(False),
        "G": _Self._binary_float,
        "J": lambda self: self._push(self._number("i")),
        "K": lambda self: self._push(self._take(1)[0]),
        "M": lambda self: self._push(self._number("H")),
        "I": _Self._int,
        "L": lambda self: self._push(decimal(self._line())),
        "F": _Self._float,
        "\x8a": lambda self: self._long(self._take(1)[0]),
        "\x8b": lambda self: self._long(self._number("i")),
        # text and bytes
        "S": _Self._quoted,
        "T": lambda self: self._push(str(self._take(self._number("i")), "latin1")),
        "U": lambda self: self._push(str(self._take(self._take(1)[0]), "latin1")),
        "V": lambda self: self._push(str(self._line().encode("latin1"), "raw-unicode-escape")),
        "X": lambda self: self._text(self._number("I")),
        "\x8c": lambda self: self._text(self._take(1)[0]),
        "\x8d": lambda self: self._text(self._number("Q")),
        "B": lambda self: self._bytes(self._number("I")),
        "C": lambda self: self._bytes(self._take(1)[0]),
        "\x8e": lambda self: self._bytes(self._number("Q")),
        "\x96": lambda self: self._bytes(self._number("Q")),
        "\x97": _Self._buffer,
        "\x98": _Self._buffer,
        # containers
        "(": _Self._mark,
        ")": lambda self: self._push(()),
        "t": lambda self: self._push(tuple(self._pop_mark())),
        "\x85": lambda self: self._tuple(1),
        "\x86": lambda self: self._tuple(2),
        "\x87": lambda self: self._tuple(3),
        "]": lambda self: self._push([]),
        "l": lambda self: self._push(self._pop_mark()),
        "a": _Self._append,
        "e": lambda self: self._extend(self._pop_mark()),
        "}": lambda self: self._push({}),
        "d": _Self._dict,
        "s": _Self._set_one,
        "u": lambda self: self._set_items(self._pop_mark(), self._stack[-1]),
        "\x8f": _Self._set,
        "\x90": _Self._pop_mark,
        "\x91": lambda self: (self._pop_mark(), self._set()),
        # stack and memo
        "0": _Self._pop_or_unmark,
        "1": _Self._pop_mark,
        "2": lambda self: self._push(self._stack[-1]),
        "g": lambda self: self._get(decimal(self._line())),
        "h": lambda self: self._get(self._take(1)[0]),
        "j": lambda self: self._get(self._number("I")),
        "p": lambda self: self._put(decimal(self._line())),
        "q": lambda self: self._put(self._take(1)[0]),
        "r": lambda self: self._put(self._number("I")),
        "\x94": lambda self: self._put(len(self._memo)),
        # objects
        "\x80": _Self._protocol,
        "\x95": _Self._frame,
        "c": _Self._global,
        "\x93": _Self._stack_global,
        "R": _Self._reduce,
        "\x81": _Self._new_object,
        "b": _Self._build,
        "P": lambda self: self._persistent_id(self._line()),
        "Q": lambda self: self._persistent_id(self._pop()),
    }.items()
}
