"""The parts of a run: results, order, interruption and resumption, processes, and the results' files."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmarks.gans import experiment, work
from benchmarks.gans.work import Work


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
    assert calls == [*range(10), *range(4)]
    calls.clear()
    resumed = Work(tmp_path / "w", Settings(), resume=True)
    assert resumed.seconds_before > 0
    assert resumed.map(walk, {str(seed): {"seed": seed, "calls": calls} for seed in range(3)}) == expected
    assert calls == [*range(4, 10), *range(10)]  # of the second part its rest, and the third


def test_without_resume_a_run_starts_from_the_beginning(tmp_path):
    parts = {"only": {"seed": 0, "calls": (calls := [])}}
    for _ in range(2):
        Work(tmp_path / "w", Settings()).map(walk, parts)
    assert len(calls) == 20


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    Work(tmp_path / "w", Settings())
    with pytest.raises(ValueError, match=r"has seeds=2, but now seeds=3: use the same settings, or start again"):
        Work(tmp_path / "w", Settings(seeds=3), resume=True)


def test_names_of_parts_do_not_collide(tmp_path):
    names = ("a b", "a-b", "a/b", "a_b")
    parts = {name: {"seed": seed, "calls": []} for seed, name in enumerate(names)}
    Work(tmp_path / "w", Settings()).map(walk, parts)
    results = Work(tmp_path / "w", Settings(), resume=True).map(walk, parts)
    assert [result["seed"] for result in results.values()] == [0, 1, 2, 3]


PROGRAM = """
import sys, time
from pathlib import Path
import benchmarks.gans.work as work
from benchmarks.gans import data

def main():
    run = work.Work(Path(sys.argv[1]), resume=True, processes=2)
    parts = {name: {"dataset": "digits", "num_features": 8, "epochs": 1} for name in ("a", "b")}
    from benchmarks.gans import classifier
    results = run.map(classifier.train, parts)
    print([round(result["accuracy"], 6) for result in results.values()])

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_parts_in_processes_give_the_results_of_one_process(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    root = Path(experiment.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import benchmarks, runpy; "
         f"sys.argv = ['program', {str(tmp_path / 'w')!r}]; runpy.run_path('program.py', run_name='__main__')"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first == second


def test_json_is_short_and_keeps_every_string():
    value = {"text": 'a, b "quoted", \\ c', "numbers": [1 / 3] * 100, "nested": {"x": [None, True, 12345]}}
    text = experiment._wrapped(json.dumps(experiment._rounded(value)))
    read = json.loads(text)
    assert read["text"] == value["text"]
    assert read["numbers"] == [0.333333333] * 100
    assert read["nested"] == value["nested"]
    assert max(map(len, text.splitlines())) < 150


def test_unknown_experiments_and_seeds_are_named():
    with pytest.raises(ValueError, match="there is no experiment 'gan'; the experiments are saddle-point, "):
        experiment.load("gan")
    module = experiment.load("streaming")
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        experiment.settings_of(module, full=False, seeds=0)
    assert experiment.settings_of(module, full=False, seeds=7) == dataclasses.replace(module.QUICK, seeds=7)


def test_the_worker_path_is_restored():
    before = list(sys.path)
    with work._importable():
        assert sys.path[-1] == str(Path(experiment.__file__).parents[2])
    assert sys.path == before
