"""A process that makes a part of the calls, or reads a part of the damaged files; its parent survives its end.

``python fuzz_child.py JOB`` with a job as JSON, see `fuzz_run`. The current call is written to a file before it begins.
"""

import ctypes
import faulthandler
import json
import os
import resource
import shutil
import socket
import sys
import time
from collections import Counter
from pathlib import Path

#: Memory of data in the process.
_MEMORY = 8 << 30


def _calls(job, begin, end):
    import fuzz_calls
    import fuzz_table

    kinds = fuzz_table.paths(Path("files").absolute())
    for name, target in fuzz_table.targets().items():
        if job["only"] not in name:
            continue
        for number in range(job["first"], job["first"] + (job["calls"] if target.arguments else 1)):
            rng = fuzz_calls.generator_of(name, job["seed"], number)
            chosen = fuzz_calls.arguments_of(target, kinds, rng)
            described = ", ".join(f"{key}={text}" for key, (text, _) in chosen.items())
            begin(f"{name}({described}), seed {job['seed']}, call {number}")
            values = {key: value for key, (_, value) in chosen.items()}
            end(name, fuzz_calls.call(target, values, rng, [text for text, _ in chosen.values()]))


def _files(job, begin, end):
    import fuzz_calls
    import fuzz_files

    for name, (suffix, write) in fuzz_files.WRITERS.items():
        if job["only"] not in name:
            continue
        valid = Path(f"valid{suffix}")
        valid.parent.mkdir(exist_ok=True)
        write(valid, fuzz_calls.generator_of(name, job["seed"], 0))
        data = valid.read_bytes()
        if valid.parent.name:  # one file of a folder is damaged
            shutil.copytree(valid.parent, Path(f"damaged{suffix}").parent, dirs_exist_ok=True)
        for number in range(job["first"], job["first"] + job["files"]):
            rng = fuzz_calls.generator_of(name, job["seed"], number + 1)
            path = Path(f"damaged{suffix}")
            path.write_bytes(fuzz_files.damaged(data, rng) if number else data)
            begin(f"{name}, seed {job['seed']}, file {number}")
            for outcome in fuzz_files.read(name, path.absolute()):
                end(name, outcome)


def _begin(job, current, text):
    faulthandler.dump_traceback_later(job["seconds"], exit=True)
    current.seek(0)
    current.truncate()
    current.write(text)
    current.flush()


def _fail(job, current):
    """What tests of the parent ask for."""
    _begin(job, current, job["only"])
    if job["only"] == "fuzz_crash":
        ctypes.string_at(0)
    time.sleep(3600)


def main():
    job = json.loads(sys.argv[1])
    os.chdir(job["folder"])
    current = Path("current").open("w")  # noqa: SIM115
    if job["only"] in ("fuzz_crash", "fuzz_hang"):
        _fail(job, current)
    if not job["sanitized"]:
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    Path("files").mkdir()
    os.environ["FIDFAST_CACHE"] = str(Path("cache").absolute())

    import torch
    from fuzz_values import no_network

    torch.set_num_threads(1)
    socket.getaddrinfo = no_network
    counts, faults, texts = Counter(), [], [""]

    def begin(text):
        _begin(job, current, text)
        texts[0] = text

    def end(name, outcome):
        faulthandler.cancel_dump_traceback_later()
        counts[f"{name}\t{outcome.kind}"] += 1
        if outcome.kind == "fault":
            faults.append(f"{texts[0]}: {outcome.text}")

    if job["calls"] > 0:
        _calls(job, begin, end)
    if job["files"] > 0:
        _files(job, begin, end)
    Path("result.json").write_text(json.dumps({"counts": counts, "faults": faults}))


if __name__ == "__main__":
    main()
