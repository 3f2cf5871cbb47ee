"""Calls of public functions with random arguments, and what may come of them."""

import dataclasses
import math
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fuzz_table import Target
from fuzz_values import JUNK, Kind, make_junk

#: Share of the arguments that are junk.
_JUNK_SHARE = 0.25

#: Parts of messages of Python, NumPy, torch and pybind11 that do not say which argument is wrong.
_NOT_A_SENTENCE = re.compile(
    "incompatible (function|constructor) arguments|has no attribute|unsupported operand|not subscriptable|"
    "not supported between|cannot be interpreted as an integer|object is not iterable|unhashable|not callable$|"
    "positional argument|Please file an issue|INTERNAL ASSERT|object of type|must be real number, not|"
    "invalid literal|could not convert|is ambiguous|index out of range"
)

#: Junk that asks for more memory than there is.
_HUGE = frozenset(("2**31 - 1", "2**63", "10**400"))

#: Fields that are NaN if there is no error bar, or one number only.
_MAY_BE_NAN = {"stderr", "std", "bias", "difference", "p_value", "unbiased", "interval_95", "interval"}

#: Functions whose result is a number that is not negative.
_NOT_NEGATIVE = {"fid", "frechet_distance", "cmmd", "mifid", "ngram_jsd", "fid_of_images", "fid_of_samples"}

#: Further documented errors, by the beginning of the name of the target.
_ALSO = {
    "ClassMoments.stats": KeyError,
    "Moments": RuntimeError,  # device
    "at_layer": AttributeError,
    "Moments.from_state": KeyError,
    "ClassMoments.from_state": KeyError,
    "InceptionScore.from_state": KeyError,
    "NgramCounts.from_state": KeyError,
    "load_extractor": ImportError,
    "FrechetInceptionDistance.compute": RuntimeError,
    "FrechetInceptionDistance.forward": RuntimeError,
    "Images.path_of": IndexError,
    "calculate_frechet_distance": AssertionError,  # as in pytorch-fid
}


@dataclasses.dataclass
class Outcome:
    """What came of one call."""

    #: "result", "error" or "fault".
    kind: str
    text: str = ""


def arguments_of(target: Target, kinds: dict[str, Kind], rng: np.random.Generator) -> dict[str, tuple[str, object]]:
    """Some arguments of a call: for each, a description and the value."""
    chosen = {}
    for name, kind in target.arguments.items():
        kind = kinds.get(f"{target.name}.{name}", kind)
        if name not in target.required and rng.random() < 0.5:
            continue
        names = [junk for junk in JUNK if junk not in kind.slow]
        if names and (rng.random() < _JUNK_SHARE or not kind.good):
            junk = names[rng.integers(len(names))]
            chosen[name] = (junk, make_junk(junk, rng))
        else:
            i = int(rng.integers(len(kind.good)))
            chosen[name] = (f"good {i}", kind.good[i](rng))
    return chosen


def good_arguments(target: Target, kinds: dict[str, Kind], rng: np.random.Generator) -> dict[str, object]:
    """Accepted values of the arguments without a default."""
    found = {name: kinds.get(f"{target.name}.{name}", kind) for name, kind in target.arguments.items()}
    return {name: kind.good[0](rng) for name, kind in found.items() if name in target.required and kind.good}


def generator_of(target: str, seed: int, number: int) -> np.random.Generator:
    """The random numbers of one call, which can be repeated alone."""
    return np.random.default_rng([seed, zlib.crc32(target.encode()), number])


def call(target: Target, values: dict[str, object], rng: np.random.Generator, junk: Sequence[str] = ()) -> Outcome:
    """Call the target, and judge its result or error; `junk` names the values in `JUNK`."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), torch.random.fork_rng(devices=()):
        warnings.simplefilter("ignore")
        try:
            result = target.make(rng)(**values)
        except (KeyboardInterrupt, SystemExit):
            raise
        except MemoryError as error:
            return Outcome("error" if _HUGE.intersection(junk) else "fault", repr(error))
        except BaseException as error:
            paths = [str(value) for value in values.values() if isinstance(value, (str, Path)) and str(value)]
            return judge_error(target.name, error, [*target.arguments, *paths])
    return judge_result(target.name, result)


def judge_error(name: str, error: BaseException, words: list[str]) -> Outcome:
    """An error, which must be documented and name an argument."""
    text = f"{type(error).__name__}: {error}"
    also = tuple(kind for start, kind in _ALSO.items() if name.split(" ")[0].startswith(start))
    documented = isinstance(error, (TypeError, ValueError, OSError, *also)) and not isinstance(error, UnicodeError)
    if also and isinstance(error, also) and str(error).strip():
        return Outcome("error", text)
    if not documented or _NOT_A_SENTENCE.search(str(error)) or not str(error).strip():
        return Outcome("fault", text)
    words = [
        *words,
        "features",
        "image",
        "labels",
        "samples",
        "state",
        "moments",
        "rows",
        "texts",
        "classes",
        "Format",
        "extractor",
    ]
    if isinstance(error, OSError) or any(word in str(error) for word in words):
        return Outcome("error", text)
    return Outcome("fault", f"no argument is named: {text}")


def judge_result(name: str, result: object) -> Outcome:
    """A result, which must not be NaN."""
    if name in _NOT_NEGATIVE and not (isinstance(result, float) and result >= 0):
        return Outcome("fault", f"returned {result!r}")
    bad = _nan_in(result)
    return Outcome("result") if bad is None else Outcome("fault", f"NaN in {bad} of {result!r}"[:400])


def _nan_in(result: object) -> str | None:
    if isinstance(result, float):
        return "the result" if math.isnan(result) else None
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        for field in dataclasses.fields(result):
            value = getattr(result, field.name)
            may_be = field.name in _MAY_BE_NAN
            if not may_be and (isinstance(value, float) or dataclasses.is_dataclass(value)) and _nan_in(value):
                return field.name
        return None
    if isinstance(result, np.ndarray) and result.dtype.kind == "f":
        return "the array" if np.isnan(result).any() else None
    return None
