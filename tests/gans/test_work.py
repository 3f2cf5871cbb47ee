"""The parts of a run: results, order, interruption and resumption, processes, and the results' files."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.gans import experiment, work
from benchmarks.gans.work import CannotResumeError, Work


@dataclass(frozen=True)
class Settings:
    seeds: int = 2
    rates: tuple[float, ...] = (0.1, 0.2)


def walk(part, *, seed, calls, stop_after=None):
    """A random walk of 10 steps, whose state is stored after each; it fails after `stop_after` steps."""
    torch.manual_seed(seed)
    position, start = torch.zeros(2), 0
    if (state := part.load()) is not None:
        position, start = state["position"], state["step"]
        torch.set_rng_state(state["random"])
    for step in range(start, 10):
        if step == stop_after:
            raise KeyboardInterrupt
        position = position + torch.randn(2)
        part.advance()
        part.save({"position": position, "step": step + 1, "random": torch.get_rng_state()}, steps=step + 1)
        calls.append(step)
    return {"position": position.tolist(), "seed": seed}


def test_results_are_in_the_order_of_the_parts():
    parts = {f"seed {seed}": {"seed": seed, "calls": []} for seed in (3, 1, 2)}
    results = Work().map(walk, parts, steps=10)
    assert [result["seed"] for result in results.values()] == [3, 1, 2]
    assert list(results) == list(parts)


def test_an_interrupted_run_continues_with_identical_results(tmp_path):
    calls = []
    expected = Work().map(walk, {str(seed): {"seed": seed, "calls": []} for seed in range(3)})
    parts = {str(seed): {"seed": seed, "calls": calls, "stop_after": 4 if seed == 1 else None} for seed in range(3)}
    interrupted = Work(tmp_path / "w", Settings())
    with pytest.raises(KeyboardInterrupt):
        interrupted.map(walk, parts)
    interrupted.close()
    assert calls == [*range(10), *range(4)]
    calls.clear()
    resumed = Work(tmp_path / "w", Settings(), resume=True)
    assert resumed.seconds_before > 0
    assert resumed.map(walk, {str(seed): {"seed": seed, "calls": calls} for seed in range(3)}) == expected
    assert calls == [*range(4, 10), *range(10)]  # of the second part its rest, and the third


def test_without_resume_a_run_starts_from_the_beginning(tmp_path):
    parts = {"only": {"seed": 0, "calls": (calls := [])}}
    for _ in range(2):
        with Work(tmp_path / "w", Settings()) as run:
            run.map(walk, parts)
    assert len(calls) == 20


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    Work(tmp_path / "w", Settings()).close()
    with pytest.raises(CannotResumeError, match=r"its seeds is 2, and now 3; use the same, or start again without"):
        Work(tmp_path / "w", Settings(seeds=3), resume=True)
    with pytest.raises(CannotResumeError, match=r"its number of processes is 1, and now 2"):
        Work(tmp_path / "w", Settings(), resume=True, processes=2)


def test_a_run_of_other_code_is_not_continued(tmp_path):
    path = tmp_path / "w" / "circumstances.json"
    Work(tmp_path / "w", Settings()).close()
    circumstances = json.loads(path.read_text())
    for key in ("code", "version of torch", "number of threads"):
        path.write_text(json.dumps({**circumstances, key: "other"}))
        with pytest.raises(CannotResumeError, match=f"its {key} is other, and now "):
            Work(tmp_path / "w", Settings(), resume=True)


def test_a_folder_has_one_run_at_a_time(tmp_path):
    running = Work(tmp_path / "w", Settings())
    with pytest.raises(CannotResumeError, match=r"another process runs in .*: wait for it"):
        Work(tmp_path / "w", Settings(), resume=True)
    running.close()
    Work(tmp_path / "w", Settings(), resume=True)


def test_the_time_of_an_interrupted_part_is_kept(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(work.time, "perf_counter", lambda: float(next(clock)))
    interrupted = Work(tmp_path / "w", Settings())
    with pytest.raises(KeyboardInterrupt):
        interrupted.map(walk, {"only": {"seed": 0, "calls": [], "stop_after": 4}})
    interrupted.close()
    # Every reading of the clock adds 10 s; each step reads it at least once.
    assert Work(tmp_path / "w", Settings(), resume=True).seconds_before >= 40


def test_names_of_parts_do_not_collide(tmp_path):
    names = ("a b", "a-b", "a/b", "a_b")
    parts = {name: {"seed": seed, "calls": []} for seed, name in enumerate(names)}
    with Work(tmp_path / "w", Settings()) as first:
        first.map(walk, parts)
    results = Work(tmp_path / "w", Settings(), resume=True).map(walk, parts)
    assert [result["seed"] for result in results.values()] == [0, 1, 2, 3]


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from benchmarks.gans.work import Part, Work
from parts import FUNCTIONS

def main():
    action, folder = sys.argv[1], Path(sys.argv[2])
    run = Work(folder, resume=True, processes=int(sys.argv[3]))
    try:
        found = run.map(FUNCTIONS[action], {name: {"name": name, "folder": str(folder)} for name in ("a", "b", "c")})
    except ZeroDivisionError:
        found = "failed"
    print(found, flush=True)

if __name__ == "__main__":
    main()
"""

PARTS = """
import os, time
from pathlib import Path
import torch

def threads_and_number(part, *, name, folder):
    torch.manual_seed(ord(name))
    return [torch.get_num_threads(), float(torch.rand(()))]

def fails(part, *, name, folder):
    if name == "b":
        return 1 / 0
    time.sleep(0 if name == "a" else 60)

def waits(part, *, name, folder):
    Path(folder, f"{name}.pid").write_text(str(os.getpid()))
    time.sleep(120)

FUNCTIONS = {"threads": threads_and_number, "fails": fails, "waits": waits}
"""


class TestProcesses:
    """In a program of its own, whose workers import it."""

    @pytest.fixture
    def program(self, tmp_path):
        (tmp_path / "program.py").write_text(PROGRAM)
        (tmp_path / "parts.py").write_text(PARTS)
        root = Path(experiment.__file__).parents[2]
        (tmp_path / "start.py").write_text(
            f"import sys; sys.path.insert(0, {str(root)!r}); import benchmarks, runpy; "
            f"runpy.run_path({str(tmp_path / 'program.py')!r}, run_name='__main__')"
        )

        def start(*arguments):
            command = [sys.executable, str(tmp_path / "start.py"), *arguments]
            environment = {**os.environ, "OMP_NUM_THREADS": "2"}
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)

        return start

    @pytest.mark.slow
    def test_results_are_those_of_one_process(self, program, tmp_path):
        one, two = (program("threads", str(tmp_path / name), name) for name in "12")
        numbers = [eval(each.communicate(timeout=300)[0]) for each in (one, two)]
        values = [[value for _, value in found.values()] for found in numbers]
        assert values[0] == values[1]
        assert [threads for threads, _ in numbers[1].values()] == [1, 1, 1]
        # A resumed run with one part left uses as many threads for it.
        next((tmp_path / "2").glob("b.done")).unlink()
        again = eval(program("threads", str(tmp_path / "2"), "2").communicate(timeout=300)[0])
        assert again == numbers[1]

    @pytest.mark.slow
    def test_a_part_that_fails_ends_the_run(self, program, tmp_path):
        # Without waiting for the minute that another part takes.
        output, _ = program("fails", str(tmp_path / "w"), "2").communicate(timeout=50)
        assert output == "failed\n"

    @pytest.mark.slow
    def test_workers_end_with_a_killed_parent(self, program, tmp_path):
        process = program("waits", str(tmp_path / "w"), "2")
        pids = []
        for _ in range(600):
            pids = [int(path.read_text() or 0) for path in (tmp_path / "w").glob("*.pid")]
            if len(pids) == 2 and all(pids):
                break
            time.sleep(0.1)
        process.kill()
        process.communicate()
        for _ in range(100):
            if not any(map(psutil.pid_exists, pids)):
                break
            time.sleep(0.1)
        assert len(pids) == 2
        assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_json_is_short_and_keeps_every_string():
    value = {"text": 'a, b "quoted", \\ c', "numbers": [1 / 3] * 100, "nested": {"x": [None, True, 12345]}}
    text = experiment._wrapped(json.dumps(experiment.json_types(value)))
    read = json.loads(text)
    assert read["text"] == value["text"]
    assert read["numbers"] == [0.333333333] * 100
    assert read["nested"] == value["nested"]
    assert max(map(len, text.splitlines())) < 150


def test_unknown_experiments_and_seeds_are_named():
    with pytest.raises(
        experiment.InvalidArgumentError, match="there is no experiment 'gan'; the experiments are saddle-point, "
    ):
        experiment.load("gan")
    module = experiment.load("streaming")
    with pytest.raises(experiment.InvalidArgumentError, match="seeds must be at least 1, got 0"):
        experiment.settings_of(module, full=False, seeds=0)
    assert experiment.settings_of(module, full=False, seeds=7) == dataclasses.replace(module.QUICK, seeds=7)


def test_the_worker_path_is_restored():
    before = list(sys.path)
    with work._importable():
        assert sys.path[-1] == str(Path(experiment.__file__).parents[2])
    assert sys.path == before
