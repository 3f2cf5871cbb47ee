"""Arithmetic instructions: decodes each to a function of (threads, lanes) that executes it.

An unknown opcode, modifier, type or operand is a fault when the kernel is first launched, even if the instruction is
never reached.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx import arithmetic
from ptx.conversions import (
    bfloat16_to_float32,
    conversion,
    float32_to_bfloat16,
    float64_to_bfloat16,
)
from ptx.forms import Modifiers, apply, expect
from ptx.memory import LOCAL_WINDOW, SHARED_WINDOW
from ptx.program import TYPE_BYTES, Fault, Instruction, split_operands
from ptx.registers import DTYPES, Operands, Violation

_INTEGERS = "u16 s16 u32 s32 u64 s64"
_FLOATS = "f16 bf16 f32 f64"
_BITS = "pred b16 b32 b64"
_EVERY_TYPE = " ".join(DTYPES)


def decode(operands: Operands, instruction: Instruction) -> Callable:
    """A function of (threads, lanes) that executes `instruction` for those lanes."""
    maker = _MAKERS.get(instruction.opcode)
    if maker is None:
        raise Fault(f"unknown opcode: {instruction.opcode}")
    return maker(operands, instruction, Modifiers(instruction))


def _floating(function: Callable, ptx_type: str, flushes: bool = False) -> Callable:
    """`function` for values of a floating-point type. bfloat16 is computed in float32."""
    if ptx_type == "bf16":
        return lambda *values: float32_to_bfloat16(function(*map(bfloat16_to_float32, values)))
    if flushes and ptx_type != "f32":
        raise Fault(f"unknown modifier: .ftz of .{ptx_type}")
    return (lambda *values: arithmetic.flush(function(*map(arithmetic.flush, values)))) if flushes else function


def _same_type(function: Callable, number: int, types: str, roundings: tuple[str, ...] = (), must_round=False):
    """An instruction whose operands and result have the same type. Floating-point forms may round and flush."""

    def make(operands, instruction, modifiers):
        ptx_type = modifiers.take_type(types)
        compute = function
        if ptx_type in _FLOATS.split():
            rounding = modifiers.take(*roundings)
            if must_round and rounding is None:
                raise Fault("only the correctly rounded form is supported")
            compute = _floating(function, ptx_type, modifiers.take("ftz") is not None)
        modifiers.finish()
        return apply(operands, instruction, compute, *[ptx_type] * (number + 1))

    return make


def _multiply(operands, instruction, modifiers):
    """`mul` and `mad` of integers (low, high or wide), and `mul` of floating-point numbers."""
    adds = instruction.opcode == "mad"
    ptx_type = modifiers.take_type(_INTEGERS if adds else f"{_INTEGERS} {_FLOATS}")
    if ptx_type in _FLOATS.split():
        modifiers.take("rn")
        compute, result = _floating(np.multiply, ptx_type, modifiers.take("ftz") is not None), ptx_type
    else:
        width = modifiers.take("lo", "hi", "wide")
        if width is None or (width == "wide" and TYPE_BYTES[ptx_type] == 8):
            raise Fault("unknown width of the product")
        compute = {"lo": np.multiply, "hi": arithmetic.multiply_high, "wide": arithmetic.multiply_wide}[width]
        result = f"{ptx_type[0]}{2 * int(ptx_type[1:])}" if width == "wide" else ptx_type
    modifiers.finish()
    if not adds:
        return apply(operands, instruction, compute, result, ptx_type, ptx_type)
    return apply(operands, instruction, lambda a, b, c: compute(a, b) + c, result, ptx_type, ptx_type, result)


def _fused(operands, instruction, modifiers):
    ptx_type = modifiers.take_type(_FLOATS)
    if modifiers.take("rn") is None:
        raise Fault("only the correctly rounded form is supported")
    if ptx_type == "bf16":
        compute = _fused_bfloat16
    else:
        compute = _floating(arithmetic.fused_multiply_add, ptx_type, modifiers.take("ftz") is not None)
    modifiers.finish()
    return apply(operands, instruction, compute, *[ptx_type] * 4)


def _fused_bfloat16(a, b, c):
    return float64_to_bfloat16(arithmetic.fused_multiply_add_to_odd(*map(bfloat16_to_float32, (a, b, c))))


def _divide(operands, instruction, modifiers):
    """`div` and `rem`."""
    integer = arithmetic.divide if instruction.opcode == "div" else arithmetic.remainder

    def checked(a, b):
        if (b == 0).any():
            raise Violation("divides an integer by zero", np.argmax(np.atleast_1d(b == 0)))
        return integer(a, b)

    if instruction.modifiers[-1] in _INTEGERS.split():
        return _same_type(checked, 2, _INTEGERS)(operands, instruction, modifiers)
    if instruction.opcode == "rem":
        raise Fault("rem needs an integer type")
    return _same_type(np.divide, 2, "f32 f64", ("rn",), must_round=True)(operands, instruction, modifiers)


def _extremum(operands, instruction, modifiers):
    choose = arithmetic.minimum if instruction.opcode == "min" else arithmetic.maximum
    keep_nan = modifiers.take("NaN") is not None
    make = _same_type(lambda a, b: choose(a, b, keep_nan), 2, _FLOATS if keep_nan else f"{_INTEGERS} {_FLOATS}")
    return make(operands, instruction, modifiers)


def _shift(operands, instruction, modifiers):
    left = instruction.opcode == "shl"
    ptx_type = modifiers.take_type("b16 b32 b64" if left else f"b16 b32 b64 {_INTEGERS}")
    modifiers.finish()
    function = arithmetic.shift_left if left else arithmetic.shift_right
    return apply(operands, instruction, function, ptx_type, ptx_type, "u32")


def _funnel_shift(operands, instruction, modifiers):
    modifiers.take_type("b32")
    left, wrap = modifiers.take("l", "r") == "l", modifiers.take("wrap", "clamp") == "wrap"
    modifiers.finish()

    def compute(low, high, amount):
        return arithmetic.funnel_shift(low, high, amount, left, wrap)

    return apply(operands, instruction, compute, *["b32"] * 3, "u32")


def _bit_field(operands, instruction, modifiers):
    if instruction.opcode == "bfe":
        ptx_type = modifiers.take_type("u32 s32 u64 s64")
        function, arguments = arithmetic.extract_bits, [ptx_type, "u32", "u32"]
    else:
        ptx_type = modifiers.take_type("b32 b64")
        function, arguments = arithmetic.insert_bits, [ptx_type, ptx_type, "u32", "u32"]
    modifiers.finish()
    return apply(operands, instruction, function, ptx_type, *arguments)


def _table_logic(operands, instruction, modifiers):
    modifiers.take_type("b32")
    modifiers.finish()
    return apply(operands, instruction, arithmetic.logic_by_table, *["b32"] * 5)


def _count(function):
    def make(operands, instruction, modifiers):
        ptx_type = modifiers.take_type("b32 b64")
        modifiers.finish()
        return apply(operands, instruction, function, "u32", ptx_type)

    return make


_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def _comparison(name: str, ptx_type: str) -> Callable:
    is_float = ptx_type in _FLOATS.split()
    if is_float and name in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (name == "nan")
    unordered = is_float and name.endswith("u")
    compare = _COMPARISONS.get(name[:-1] if unordered else name)
    if compare is None or (name in ("lo", "ls", "hi", "hs") and ptx_type[0] not in "ub"):
        raise Fault(f"unknown comparison: .{name}")
    if ptx_type[0] == "b" and not is_float and name not in ("eq", "ne"):
        raise Fault(f"untyped bits have no order: .{name}")
    if unordered:
        return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)
    if is_float and name == "ne":  # true for NaN in NumPy, false in PTX
        return lambda a, b: compare(a, b) & ~(np.isnan(a) | np.isnan(b))
    return compare


def _set_predicate(operands, instruction, modifiers):
    ptx_type = modifiers.take_type(f"b16 b32 b64 {_INTEGERS} {_FLOATS}")
    flushes = modifiers.take("ftz") is not None
    combination = modifiers.take("and", "or", "xor")
    (name,) = modifiers.take_all() if len(instruction.modifiers) - flushes - bool(combination) == 2 else (None,)
    if name is None or (flushes and ptx_type != "f32"):
        raise Fault("unknown form of setp")
    compare = _comparison(name, ptx_type)
    prepare = bfloat16_to_float32 if ptx_type == "bf16" else arithmetic.flush if flushes else None
    targets, *sources = expect(instruction, 4 if combination else 3)
    first, second = (operands.reader(source, ptx_type) for source in sources[:2])
    target, _, opposite = targets.partition("|")
    write = operands.writer(target.strip(), "pred")
    write_opposite = operands.writer(opposite.strip(), "pred") if opposite else None
    combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, None: None}[combination]
    other = operands.predicate_reader(sources[2]) if combination else None

    def execute(threads, lanes):
        a, b = first(threads, lanes), second(threads, lanes)
        holds = compare(a, b) if prepare is None else compare(prepare(a), prepare(b))
        also = other(threads, lanes) if other else None
        write(threads, lanes, combine(holds, also) if combine else holds)
        if write_opposite:
            fails = np.logical_not(holds)
            write_opposite(threads, lanes, combine(fails, also) if combine else fails)

    return execute


def _select(operands, instruction, modifiers):
    ptx_type = modifiers.take_type(_EVERY_TYPE)
    modifiers.finish()
    target, when_true, when_false, condition = expect(instruction, 4)
    write, choose = operands.writer(target, ptx_type), operands.predicate_reader(condition)
    first, second = operands.reader(when_true, ptx_type), operands.reader(when_false, ptx_type)

    def execute(threads, lanes):
        write(threads, lanes, np.where(choose(threads, lanes), first(threads, lanes), second(threads, lanes)))

    return execute


def _move(operands, instruction, modifiers):
    ptx_type = modifiers.take_type(_EVERY_TYPE)
    modifiers.finish()
    target, source = expect(instruction, 2)
    if not (target.startswith("{") or source.startswith("{")):
        return apply(operands, instruction, lambda value: value, ptx_type, ptx_type)
    packed = f"b{8 * TYPE_BYTES[ptx_type]}"
    parts = split_operands((target if target.startswith("{") else source)[1:-1])
    bits = 8 * TYPE_BYTES[ptx_type] // len(parts)
    part = f"b{bits}"
    if part not in DTYPES or part == packed:
        raise Fault("unknown form of mov")
    wide, narrow = DTYPES[packed].type, DTYPES[part]
    if target.startswith("{"):
        writes, read = [operands.writer(name, part) for name in parts], operands.reader(source, packed)

        def unpack(threads, lanes):
            value = read(threads, lanes)
            for index, write in enumerate(writes):
                write(threads, lanes, (value >> wide(bits * index)).astype(narrow))

        return unpack
    reads, write = [operands.reader(name, part) for name in parts], operands.writer(target, packed)

    def pack(threads, lanes):
        value = wide(0)
        for index, read in enumerate(reads):
            value = value | read(threads, lanes).astype(wide) << wide(bits * index)
        write(threads, lanes, value)

    return pack


def _convert(operands, instruction, modifiers):
    if len(instruction.modifiers) < 2:
        raise Fault("a conversion needs two types")
    source = modifiers.take_type(_EVERY_TYPE.replace("pred ", ""))
    if pair := modifiers.take("f16x2", "bf16x2"):
        element = pair.removesuffix("x2")
        left = modifiers.take_all()
        convert = conversion(element, source, left)
        if left:
            raise Fault(f"unknown modifier: .{left.pop()}")

        def compute(high, low):
            high, low = (convert(value).view(np.uint16).astype(np.uint32) for value in (high, low))
            return high << np.uint32(16) | low

        return apply(operands, instruction, compute, "b32", source, source)
    target = modifiers.take_type(_EVERY_TYPE.replace("pred ", ""))
    left = modifiers.take_all()
    convert = conversion(target, source, left)
    if left:
        raise Fault(f"unknown modifier: .{left.pop()}")
    return apply(operands, instruction, convert, target, source)


def _convert_address(operands, instruction, modifiers):
    """Converts between generic and state-space addresses, which are equal for global memory and parameters."""
    modifiers.take_type("u64")
    to_space = modifiers.take("to") is not None
    space = modifiers.take("global", "shared", "shared::cta", "local", "const", "param")
    modifiers.finish()
    if space is None:
        raise Fault("unknown state space")
    start = np.uint64({"shared": SHARED_WINDOW, "shared::cta": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(space, 0))
    move = np.subtract if to_space else np.add
    return apply(operands, instruction, lambda address: move(address, start), "u64", "u64")


def _test_property(operands, instruction, modifiers):
    ptx_type = modifiers.take_type("f32 f64")
    test = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (a != 0) & ~arithmetic.is_subnormal(a),
        "subnormal": arithmetic.is_subnormal,
    }.get(modifiers.take("finite", "infinite", "number", "notanumber", "normal", "subnormal"))
    modifiers.finish()
    if test is None:
        raise Fault("unknown property")
    return apply(operands, instruction, test, "pred", ptx_type)


_MAKERS = {
    "add": _same_type(np.add, 2, f"{_INTEGERS} {_FLOATS}", ("rn",)),
    "sub": _same_type(np.subtract, 2, f"{_INTEGERS} {_FLOATS}", ("rn",)),
    "mul": _multiply,
    "mad": _multiply,
    "fma": _fused,
    "div": _divide,
    "rem": _divide,
    "min": _extremum,
    "max": _extremum,
    "neg": _same_type(np.negative, 1, f"s16 s32 s64 {_FLOATS}"),
    "abs": _same_type(np.abs, 1, f"s16 s32 s64 {_FLOATS}"),
    "sqrt": _same_type(np.sqrt, 1, "f32 f64", ("rn",), must_round=True),
    "rcp": _same_type(np.reciprocal, 1, "f32 f64", ("rn",), must_round=True),
    # The magnitude is the second operand, the sign the first.
    "copysign": _same_type(lambda sign, value: np.copysign(value, sign), 2, "f32 f64"),
    "testp": _test_property,
    "and": _same_type(np.bitwise_and, 2, _BITS),
    "or": _same_type(np.bitwise_or, 2, _BITS),
    "xor": _same_type(np.bitwise_xor, 2, _BITS),
    "not": _same_type(np.invert, 1, _BITS),
    "shl": _shift,
    "shr": _shift,
    "shf": _funnel_shift,
    "bfe": _bit_field,
    "bfi": _bit_field,
    "prmt": _same_type(arithmetic.permute_bytes, 3, "b32"),
    "lop3": _table_logic,
    "popc": _count(arithmetic.count_ones),
    "clz": _count(arithmetic.count_leading_zeros),
    "brev": _same_type(arithmetic.reverse_bits, 1, "b32 b64"),
    "setp": _set_predicate,
    "selp": _select,
    "mov": _move,
    "cvt": _convert,
    "cvta": _convert_address,
}
