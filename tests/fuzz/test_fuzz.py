"""Random arguments of every public callable, and damaged files of every format: a result, or a sentence.

In child processes, so that a crash or a hang is reported with its seed and its input. ``--fuzz N`` makes N calls of
each callable and reads N files of each format.
"""

from fuzz_run import run


def test_calls_and_files(request):
    number = request.config.getoption("--fuzz") or (30 if request.config.getoption("--all") else 0)
    figures = run(calls=number or 2, files=number or 4)
    print(f"\n{figures.table()}")
    assert not figures.faults, "\n".join(figures.faults)
    assert sum(counts["result"] for counts in figures.counts.values()) > 200
    assert sum(counts["error"] for counts in figures.counts.values()) > 100


def test_a_crash_and_a_hang_are_reported():
    for only, how in (("crash", "exit status -11"), ("hang", "Timeout")):
        figures = run(calls=1, files=0, only=f"fuzz_{only}", seconds=1)
        assert len(figures.faults) == 1
        assert how in figures.faults[0]
        assert f"fuzz_{only}" in figures.faults[0]
