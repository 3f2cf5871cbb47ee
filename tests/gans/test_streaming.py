"""The experiment on the cost of measuring: three tools agree; times are reported, not asserted."""

import dataclasses

import pytest

from benchmarks.gans import experiment, streaming
from benchmarks.gans.work import Work


@pytest.fixture(scope="module")
def result():
    return streaming.run(streaming.QUICK, Work())


def test_the_three_tools_agree(result):
    # torchmetrics returns float32, 6e-8 relative. The eigenvalues of a product of two matrices have an error of
    # eps |product|, so the root of one that is zero has 1.5e-8 of the largest root; a few hundred of 2,048 are small.
    assert streaming.worst_difference(result) < 1e-6
    assert streaming.claim(result)[0].holds


def test_every_measurement_is_in_the_result(result):
    settings = streaming.QUICK
    points = settings.updates // settings.measure_every + 1
    assert list(result.seconds) == ["32", "128"]
    for dim in result.seconds:
        assert list(result.seconds[dim]) == list(streaming.TOOLS)
        assert all(len(result.distances[dim][tool]) == points for tool in streaming.TOOLS)
    assert len(result.training) == points - 1
    # A float64 array of all features would have 0.6 MB; the process also loads code.
    assert 0 < result.memory["fidfast"] < 100e6


def test_each_measurement_starts_with_a_different_tool(monkeypatch):
    order = []
    tools = {tool: lambda reference, tool=tool: lambda batches: order.append(tool) or 1.0 for tool in streaming.TOOLS}
    monkeypatch.setattr(streaming, "TOOL", tools)
    settings = dataclasses.replace(streaming.QUICK, epochs=1, updates=3, measure_every=1, num_samples=4, memory_of=())
    result = streaming.run(settings, Work())
    number = len(streaming.TOOLS)
    assert len(order) == 2 * 4 * number  # two extractors, four measurements
    firsts = order[:: 2 * number]
    assert firsts == order[number :: 2 * number]
    assert sorted(firsts) == sorted(streaming.TOOLS)
    assert list(result.seconds["32"]) == list(streaming.TOOLS)


def test_extraction_and_memory_are_beside_the_tools(result):
    quantities = [figure.quantity for figure in streaming.figures(result)]
    for dim in ("32", "128"):
        for step in ("generation and extraction", *streaming.TOOLS):
            assert f"{step}, {dim} features" in quantities
    assert "peak memory of fidfast, 128 features" in quantities
    assert "Peak memory with 128 features: fidfast " in streaming.summary(result)
    assert "3 measurements of 1 seed, " in streaming.claim(result)[1].margin


def test_the_result_is_read_as_it_was_written(result, tmp_path):
    experiment.write(tmp_path, "streaming", result, preset="quick", seconds=1.0)
    first = experiment.read(tmp_path, "streaming", "quick")
    experiment.write(tmp_path, "streaming", first.result, preset="quick", seconds=1.0)
    assert experiment.read(tmp_path, "streaming", "quick").result == first.result
    assert first.plot_path.read_bytes().startswith(b"\x89PNG")
    assert "The numbers agree" in streaming.summary(first.result)
