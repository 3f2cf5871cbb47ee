"""Failure injection: every call to CUDA and its libraries fails in turn."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

#: Exceptions of failed calls.
ERRORS = (RuntimeError, MemoryError)
#: Calls whose failure raises nothing: the memory is released anyway, or the extension has another way.
_IGNORED = {"cudaFree", "cudaFreeHost", "cudaEventRecord", "cudaStreamWaitEvent"}


def fail_each_call(
    cuda,
    choose: Callable[[Iterable[int]], Iterable[int]],
    make: Callable[[], tuple],
    work: Callable[..., Any],
    correct: Callable[..., bool],
    unchanged: Callable[..., bool] | None = None,
) -> list[str]:
    """Run `work(*make())` once for each of its calls, with this call made to fail.

    Each run must raise an error or return a result for which `correct(result, *arguments)` is true. After an error,
    `unchanged(*arguments)` must be true, and the same work must then succeed. Without `unchanged`, for immutable
    arguments, the work is repeated at every 16th call only. Nothing may leak, and no rule of CUDA may be broken.

    Parameters
    ----------
    cuda
        The stand-in.
    choose
        Selects the indices of the calls that fail.

    Returns
    -------
    list of str
        The names of all calls of an undisturbed run.
    """
    names = _run(cuda, None, make, work, correct, unchanged)
    for call in choose(range(len(names))):
        _run(cuda, call, make, work, correct, unchanged)
    return names


def _run(cuda, call, make, work, correct, unchanged) -> list[str]:
    """Run the work with one call failing, or with none. Returns the names of the calls."""
    before = cuda.live()
    arguments = make()
    cuda.synchronize()  # a failing wait drops queued work, which must be that of `work`
    cuda.clear_calls()
    result = error = None
    with cuda.failing(0 if call is None else call + 1) as happened:
        try:
            result = work(*arguments)
        except ERRORS as caught:
            error = f"{type(caught).__name__}: {caught}"
        failed = call is not None and happened()
    names = [each.name for each in cuda.calls()]
    message = "no failing call" if call is None else f"call {call}, {names[call]}: {error}"
    assert failed == (call is not None), message
    if error is None:
        assert not failed or names[call] in _IGNORED, message
        assert correct(result, *arguments), message
    else:
        assert failed, message
        assert unchanged is None or unchanged(*arguments), message
        if unchanged is not None or call % 16 == 0:
            assert correct(work(*arguments), *arguments), message
    del result, arguments
    if cuda.live() != before:
        gc.collect()
    assert cuda.live() == before, message
    assert cuda.reasons() == [], message
    return names
