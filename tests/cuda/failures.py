"""A failure of every single call to CUDA and its libraries in turn."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

#: What a failing call comes out as.
ERRORS = (RuntimeError, MemoryError)
#: Calls whose failure needs no answer: memory is gone all the same, or there is another way.
_SWALLOWED = {"cudaFree", "cudaFreeHost", "cudaEventRecord", "cudaStreamWaitEvent"}


def fail_each_call(
    cuda,
    make: Callable[[], tuple],
    work: Callable[..., Any],
    right: Callable[..., bool],
    intact: Callable[..., bool] | None = None,
) -> list[str]:
    """Runs `work(*make())` with its first call made to fail, with its second, and so on, until none is left to fail.

    Whichever fails: there is an error or the right answer, by `right(answer, *things)`; after an error all is as it was
    before, by `intact(*things)`, and the same work then gives the right answer (of what has no state to spoil, so has
    no `intact`, at every 16th call only); nothing leaks, and no rule is broken. The calls that were made to fail come
    back.
    """
    names: list[str] = []
    while True:
        before = cuda.live()
        things = make()
        cuda.synchronize()  # what a failing wait loses is the work's own
        cuda.clear_calls()
        answer = error = None
        with cuda.failing(len(names) + 1) as happened:
            try:
                answer = work(*things)
            except ERRORS as caught:
                error = f"{type(caught).__name__}: {caught}"
            failed = happened()
        name = cuda.calls()[len(names)].name if failed else "none"
        told = f"call {len(names) + 1}, {name}: {error}"
        if error is None:
            assert not failed or name in _SWALLOWED, told
            assert right(answer, *things), told
        else:
            assert failed, told
            assert intact is None or intact(*things), told
            if intact is not None or len(names) % 16 == 0:
                assert right(work(*things), *things), told
        del answer, things
        if cuda.live() != before:
            gc.collect()
        assert cuda.live() == before, told
        assert cuda.reasons() == [], told
        if not failed:
            return names
        names.append(name)
