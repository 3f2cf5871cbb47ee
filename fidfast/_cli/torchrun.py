"""Commands that torchrun starts in several processes: they share the images, and the first process prints."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from fidfast._cli.output import Output, write_message, write_text
from fidfast._cli.signals import ignoring_signals

__all__ = ["Launch", "launch_of"]

#: Commands that read images; the first process alone runs the others.
_SHARED = ("fid", "evaluate", "report", "stats")

#: The variables that torchrun sets for every process.
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

#: Seconds until a process that fails before the processes have met writes its own message: if the first fails too,
#: torchrun ends the others earlier.
_UNTIL_OWN_MESSAGE = 10.0
#: Seconds until the first process writes that others are missing, and until all give up.
_UNTIL_NOTE, _UNTIL_MEETING = 30.0, 1800.0
#: Seconds to wait for the message of another process, and for the first process to write it.
_UNTIL_WRITTEN = 10.0


class Launch:
    """The processes of one command.

    Parameters
    ----------
    rank, size : int
        Number of this process, and number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.is_first = rank == 0
        self._stack = ExitStack()
        #: After `join`.
        self._ranks: Any = None
        self._finished = False
        self._output: Output | None = None
        self._threads_divided = False

    def parse(self, parse: Callable[[], argparse.Namespace], output: Output) -> argparse.Namespace:
        """The options; what the parser prints is printed by the first process."""
        self._output = output
        if self.size > 1:
            self._divide_threads()
        if self.is_first:
            options = parse()
        else:
            output.is_silent = True
            try:
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    options = parse()
            except SystemExit as error:
                if error.code:
                    time.sleep(_UNTIL_OWN_MESSAGE)  # torchrun ends the others when this process ends with an error
                raise
            options.quiet = True
        options.launch = self
        return options

    def takes_part_in(self, command: str) -> bool:
        """Whether this process runs the command."""
        return self.is_first or command in _SHARED

    def join(self, device: str | None) -> bool:
        """Meet the other processes, and initialise the process group; return whether there are others."""
        if self.size > 1 and self._ranks is None:
            from fidfast.torch._processes.ranks import sharing

            self._initialise(device)
            self._ranks = self._stack.enter_context(sharing(True, None))
        return self.size > 1

    def continues(self) -> bool:
        """Whether this process computes and writes the result, after the images; others wait until it is done."""
        if self.is_first and self._threads_divided:
            # The others compute nothing any more.
            os.environ["OMP_NUM_THREADS"] = str(_cores())
        if not self.is_first:
            self.finish()
        return self.is_first

    def finish(self) -> None:
        """Wait until the first process is done, which also writes the warnings of the others."""
        if self._ranks is None or self._finished:
            return
        assert self._output is not None
        warnings = self._ranks.exchange(sorted(self._output.warnings))
        if self.is_first:
            for rank, messages in enumerate(warnings):
                for message in messages:
                    if message not in self._output.warnings:
                        write_message(f"fidfast: warning: rank {rank}: {message}")
        self._finished = True
        self._stack.close()
        import torch.distributed as dist

        dist.destroy_process_group()

    def fail(self, error: BaseException, write: Callable[[], int]) -> int:
        """Write a message about an error, once for all processes, and return the exit code.

        Parameters
        ----------
        error : BaseException
        write : callable
            Writes the message to standard error, and returns the exit code.
        """
        interrupted = isinstance(error, KeyboardInterrupt)
        if self._ranks is None or self._finished:
            if self.is_first or interrupted:
                return self._written(write, silent=not self.is_first)
            try:
                time.sleep(_UNTIL_OWN_MESSAGE)
            except KeyboardInterrupt as ended:
                error = ended  # by torchrun, since another process has failed and written its message
            return self._written(write, silent=isinstance(error, KeyboardInterrupt), prefix=True)
        with ignoring_signals():
            code = self._fail_together(error, write, interrupted)
            self._stack.__exit__(type(error), error, None)
            import torch.distributed as dist

            if dist.get_backend() == "gloo":  # NCCL may wait for the processes that failed
                dist.destroy_process_group()
        return code

    def _fail_together(self, error: BaseException, write: Callable[[], int], interrupted: bool) -> int:
        from fidfast.torch._processes.ranks import OtherProcessError

        ranks = self._ranks
        other = error.rank if isinstance(error, OtherProcessError) else None
        is_dead = isinstance(error, OtherProcessError) and error.is_dead
        if self.is_first:
            text = None if other is None or is_dead else ranks.posted(f"message/{other}", _UNTIL_WRITTEN)
            if text is None:
                code = write()
            else:
                code = 1
                write_text(sys.stderr, text)
            ranks.post("written", "")
            return code
        text = StringIO()
        with redirect_stderr(text):
            code = write()
        if other is None:
            ranks.post(f"message/{self.rank}", self._with_rank(text.getvalue()))
            ranks.fail(error)
        first_is_dead = is_dead and other == 0
        if (first_is_dead or ranks.posted("written", _UNTIL_WRITTEN) is None) and not interrupted:
            write_text(sys.stderr, self._with_rank(text.getvalue()))
        return code

    def _written(self, write: Callable[[], int], *, silent: bool, prefix: bool = False) -> int:
        if not (silent or prefix):
            return write()
        text = StringIO()
        with redirect_stderr(text):
            code = write()
        if not silent:
            write_text(sys.stderr, self._with_rank(text.getvalue()))
        return code

    def _with_rank(self, text: str) -> str:
        """The message with the rank of this process."""
        return text.replace("fidfast: ", f"fidfast: rank {self.rank}: ", 1)

    def _divide_threads(self) -> None:
        """Divide the cores over the processes of this machine, instead of torchrun's one thread for each.

        Before torch and SciPy are imported, which read the variable.
        """
        processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1" and processes > 1:
            os.environ["OMP_NUM_THREADS"] = str(max(1, _cores() // processes))
            self._threads_divided = True

    def _initialise(self, device: str | None) -> None:
        import datetime

        import torch
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        local, processes = (int(os.environ.get(f"LOCAL_{name}") or 0) for name in ("RANK", "WORLD_SIZE"))
        backend = "gloo"
        if torch.cuda.is_available() and device in (None, "cuda"):
            torch.cuda.set_device(local % torch.cuda.device_count())
            if processes <= torch.cuda.device_count() and dist.is_nccl_available():
                backend = "nccl"
        store, rank, size = next(rendezvous("env://", timeout=datetime.timedelta(seconds=_UNTIL_MEETING)))
        # With a prefix, since the process that runs this command may have a process group with the same store.
        store = dist.PrefixStore(f"fidfast/{store.add(f'fidfast/commands/{rank}', 1)}", store)
        self._meet(store)
        dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=size)

    def _meet(self, store: Any) -> None:
        """Wait for all processes, which need different times for the imports."""
        store.set(f"here/{self.rank}", "")
        begin, noted = time.monotonic(), False
        keys = [f"here/{rank}" for rank in range(self.size)]
        while not store.check(keys):
            seconds = time.monotonic() - begin
            absent = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
            missing = f"rank{'s' if len(absent) > 1 else ''} {', '.join(absent)} of {self.size} processes"
            alone = "to run alone: env -u RANK -u WORLD_SIZE fidfast ..."
            if seconds > _UNTIL_MEETING:
                raise RuntimeError(f"{missing} have not started the command within {_UNTIL_MEETING:.0f} s; {alone}")
            if self.is_first and not noted and seconds > _UNTIL_NOTE:
                noted = True
                write_message(f"fidfast: waiting for {missing} (RANK and WORLD_SIZE are set, as by torchrun; {alone})")
            time.sleep(0.02)


def launch_of(environment: dict[str, str]) -> Launch:
    """The processes of this command, from the variables that torchrun sets."""
    if not all(environment.get(name) for name in _VARIABLES):
        return Launch()
    try:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    except ValueError:
        return Launch()
    return Launch(rank, size) if 0 <= rank < size else Launch()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
