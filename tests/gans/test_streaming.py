"""The experiment on the cost of measuring: three tools agree; times are reported, not asserted."""

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


def test_the_result_is_read_as_it_was_written(result, tmp_path):
    experiment.write(tmp_path, "streaming", result, preset="quick", seconds=1.0)
    first = experiment.read(tmp_path, "streaming", "quick")
    experiment.write(tmp_path, "streaming", first.result, preset="quick", seconds=1.0)
    assert experiment.read(tmp_path, "streaming", "quick").result == first.result
    assert first.plot_path.read_bytes().startswith(b"\x89PNG")
    assert "The numbers agree" in streaming.summary(first.result)
