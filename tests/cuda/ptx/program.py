"""Parses PTX as printed by nvcc or cuobjdump to kernels: parameters, variables, labels, instructions.

Instructions are not decoded: opcode, modifiers and operands stay text. Unknown directives are rejected. Declarations
that no supported instruction can use (device functions, tables in constant memory) are skipped, since their use is
rejected later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

#: Bytes of a value of each fundamental type; predicates have none.
TYPE_BYTES = {"bf16": 2, "pred": 0, "b128": 16}
TYPE_BYTES |= {f"{kind}{bits}": bits // 8 for kind in "usb" for bits in (8, 16, 32, 64)}
TYPE_BYTES |= {f"f{bits}": bits // 8 for bits in (16, 32, 64)}


class Fault(Exception):  # noqa: N818 - not the interpreter's error but the kernel's
    """Undefined behaviour of a kernel, or PTX that this interpreter does not support."""


@dataclass(frozen=True)
class Parameter:
    """One kernel parameter; `dtype` is None for a struct or array passed by value."""

    name: str
    dtype: np.dtype | None
    size: int
    alignment: int


@dataclass(frozen=True)
class Variable:
    """A `.shared` or `.local` array; a size of None is the dynamic shared memory of the launch."""

    name: str
    space: str
    alignment: int
    size: int | None


@dataclass(frozen=True)
class Instruction:
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    predicate: str | None  # the guarding register, if any
    negated: bool  # whether the guard is `@!`
    text: str


@dataclass
class Kernel:
    name: str
    target: int  # 80 for sm_80
    parameters: list[Parameter]
    registers: dict[str, str] = field(default_factory=dict)  # name: type
    variables: dict[str, Variable] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    branch_targets: dict[str, list[str]] = field(default_factory=dict)  # of `brx.idx`
    most_threads: int = 1024
    required_block: tuple[int, ...] | None = None
    decoded: dict = field(default_factory=dict, compare=False, repr=False)  # cache of machine.launch

    @property
    def parameter_sizes(self) -> list[int]:
        return [parameter.size for parameter in self.parameters]

    @property
    def static_shared_bytes(self) -> int:
        """Size of all `.shared` arrays of fixed size, with alignment."""
        end = 0
        for variable in self.variables.values():
            if variable.space == "shared" and variable.size is not None:
                end = -(-end // variable.alignment) * variable.alignment + variable.size
        return end


class Program:
    """The kernels of one or several PTX modules. Of two with the same name, the one for the newer target is kept."""

    def __init__(self, text: str):
        self.kernels: dict[str, Kernel] = {}
        for module in _modules(text):
            for kernel in _kernels_of(module):
                other = self.kernels.get(kernel.name)
                if other is None or other.target < kernel.target:
                    self.kernels[kernel.name] = kernel
                elif other.target == kernel.target and other.instructions != kernel.instructions:
                    raise Fault(f"two different kernels are called {kernel.name}")


_LINKAGE = r"(?:\.(?:visible|weak|extern)\s+)*"
_ENTRY = re.compile(_LINKAGE + r"\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)")
_VARIABLE = re.compile(
    r"\.(?P<space>shared|local)\s+(?:\.align\s+(?P<alignment>\d+)\s+)?\.(?P<type>\w+)\s+"
    r"(?P<name>[\w$]+)(?P<extents>(?:\[\d*\])*)$"
)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(?P<alignment>\d+)\s+)?\.(?P<type>\w+)\s+"
    r"(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?(?P<name>[\w$]+)(?:\[(?P<extent>\d+)\])?$"
)
_LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
_INSTRUCTION = re.compile(r"(?:@(!?)([%\w$]+)\s+)?(\w+)((?:\.[\w:]+)*)(?:\s+(.*))?$", re.DOTALL)


def _modules(text: str) -> Iterator[str]:
    """Split at `.version`, without what cuobjdump prints before and between modules."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    for piece in re.split(r"^(?=\.version\b)", text, flags=re.MULTILINE):
        if piece.startswith(".version"):
            module = re.split(r"^Fatbin \w+ code:", piece, maxsplit=1, flags=re.MULTILINE)[0]
            yield re.sub(r"//[^\n]*", "", module)


def _kernels_of(module: str) -> Iterator[Kernel]:
    target = 0
    shared: dict[str, Variable] = {}  # declared outside of any kernel
    position = 0
    while match := re.compile(r"\s*(?=\S)").match(module, position):
        position = match.end()
        rest = module[position : position + 4096]
        if match := _ENTRY.match(module, position):
            opening = match.end()
            closing = _closing_brace(module, opening)
            yield _kernel(match, target, shared, module[opening + 1 : closing])
            position = closing + 1
        elif match := re.match(r"\.version\s+\S+|\.address_size\s+64\b|\.(?:file|loc)\b[^\n]*", rest):
            position += match.end()
        elif match := re.match(r"\.target\s+sm_(\d+)[^\n]*", rest):
            target = int(match[1])
            position += match.end()
        elif match := re.match(_LINKAGE + r"\.shared\b([^;]*);", rest):
            variable = _variable(".shared" + match[1])
            shared[variable.name] = variable
            position += match.end()
        elif re.match(_LINKAGE + r"\.(?:global|const)\b", rest):
            position = module.index(";", position) + 1  # a kernel that uses it is rejected
        elif re.match(_LINKAGE + r"\.func\b", rest):
            opening, end = (module.find(mark, position) for mark in "{;")
            position = (_closing_brace(module, opening) if 0 <= opening < end else end) + 1  # and so is a call of it
        elif re.match(r"\.section\b", rest):
            position = _closing_brace(module, module.index("{", position)) + 1
        else:
            raise Fault(f"unknown directive: {rest.splitlines()[0].strip()}")


def _closing_brace(text: str, opening: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, opening):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    raise Fault("a { is never closed")


def _kernel(entry: re.Match, target: int, shared: dict[str, Variable], body: str) -> Kernel:
    name, parameters, limits = entry.groups()
    kernel = Kernel(name, target, [_parameter(" ".join(p.split())) for p in (parameters or "").split(",") if p.strip()])
    for directive, values in re.findall(r"\.(\w+)([^.]*)", limits):
        numbers = tuple(int(value) for value in re.findall(r"\d+", values))
        if directive in ("maxntid", "reqntid"):
            kernel.most_threads = int(np.prod(numbers))
            if directive == "reqntid":
                kernel.required_block = (*numbers, 1, 1)[:3]
        elif directive not in ("minnctapersm", "maxnreg"):
            raise Fault(f"{name}: unknown directive: .{directive}")
    _read_body(kernel, body)
    named = {word for instruction in kernel.instructions for word in re.findall(r"[\w$]+", instruction.text)}
    kernel.variables |= {variable: shared[variable] for variable in named & shared.keys()}
    return kernel


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.match(text)
    if match is None or match["type"] not in TYPE_BYTES:
        raise Fault(f"unknown parameter: {text}")
    size = TYPE_BYTES[match["type"]]
    if match["extent"] is not None:
        return Parameter(match["name"], None, size * int(match["extent"]), int(match["alignment"] or size))
    kind = {"b": "u", "s": "i"}.get(match["type"][0], match["type"][0])
    return Parameter(match["name"], np.dtype(f"{kind}{size}"), size, int(match["alignment"] or size))


def _variable(text: str) -> Variable:
    match = _VARIABLE.match(" ".join(text.split()))
    if match is None or match["type"] not in TYPE_BYTES:
        raise Fault(f"unknown variable: {text}")
    element = TYPE_BYTES[match["type"]]
    extents = re.findall(r"\[(\d*)\]", match["extents"])
    size = None if "" in extents else element * int(np.prod([int(extent) for extent in extents], initial=1))
    return Variable(match["name"], match["space"], int(match["alignment"] or element), size)


def _read_body(kernel: Kernel, body: str) -> None:
    """Reads instructions in order. Registers declared inside of braces are renamed so that names stay unique."""
    renamings: list[dict[str, str]] = [{}]
    scopes = 0
    position = 0
    while match := re.compile(r"\s*(?=\S)").match(body, position):
        position = match.end()
        if body[position] == "{":
            scopes += 1
            renamings.append(dict(renamings[-1]))
            for names in re.findall(r"\.reg\s+\.\w+\s+([^;]*);", body[position : _closing_brace(body, position)]):
                renamings[-1] |= {name: f"{name}@{scopes}" for name in _register_names(names)}
            position += 1
        elif body[position] == "}":
            renamings.pop()
            position += 1
        elif match := _LABEL.match(body, position):
            position = match.end()
            if targets := re.compile(r"\s*\.branchtargets\s+([^;]*);").match(body, position):
                kernel.branch_targets[match[1]] = [label.strip() for label in targets[1].split(",")]
                position = targets.end()
            elif match[1] in kernel.labels:
                raise Fault(f"{kernel.name}: label {match[1]} is defined twice")
            else:
                kernel.labels[match[1]] = len(kernel.instructions)
        elif match := re.compile(r"\.loc\b[^\n]*").match(body, position):
            position = match.end()
        else:
            end = body.find(";", position)
            if end < 0:
                raise Fault(f"{kernel.name}: no ; after: {body[position:].strip()}")
            _read_statement(kernel, " ".join(body[position:end].split()), renamings[-1])
            position = end + 1


def _read_statement(kernel: Kernel, text: str, renaming: dict[str, str]) -> None:
    if not text or text.startswith(".pragma"):
        return
    if text.startswith(".reg"):
        match = re.match(r"\.reg\s+\.(\w+)\s+(.*)$", text)
        if match is None or match[1] not in TYPE_BYTES:
            raise Fault(f"{kernel.name}: unknown register type: {text}")
        for name in _register_names(match[2]):
            kernel.registers[renaming.get(name, name)] = match[1]
        return
    if text.startswith((".shared", ".local")):
        variable = _variable(text)
        kernel.variables[variable.name] = variable
        return
    match = _INSTRUCTION.match(text)
    if match is None:
        raise Fault(f"{kernel.name}: unknown directive or statement: {text}")
    negated, predicate, opcode, modifiers, operands = match.groups()

    def renamed(operand: str) -> str:
        return re.sub(r"[%\w$]+", lambda word: renaming.get(word[0], word[0]), operand) if renaming else operand

    kernel.instructions.append(
        Instruction(
            opcode,
            tuple(re.findall(r"\.((?:\w|::)+)", modifiers)),
            tuple(renamed(operand) for operand in split_operands(operands or "")),
            renamed(predicate) if predicate else None,
            negated == "!",
            text,
        )
    )


def _register_names(text: str) -> Iterator[str]:
    """`%a, %b<2>` declares %a, %b0 and %b1."""
    for name in text.split(","):
        family = re.match(r"([%\w$]+)<(\d+)>$", name.strip())
        yield from (f"{family[1]}{i}" for i in range(int(family[2]))) if family else [name.strip()]


def split_operands(text: str) -> list[str]:
    """Splits `a, {b, c}, [d]` into three operands: commas inside of brackets do not separate."""
    return [operand.strip() for operand in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,])+", text) if operand.strip()]
