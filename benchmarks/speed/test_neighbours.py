"""From two sets of features to the metrics of their neighbours. Results are compared before the timing."""

import pytest

import fidfast
from benchmarks import peers


def fidfast_precision_recall(samples, reference, k):
    return tuple(fidfast.precision_recall(samples, reference, k=k))


def fidfast_prdc(samples, reference, k):
    return tuple(fidfast.manifold_metrics(samples, reference, k=k, inclusive=False))


def fidfast_mifid(samples, reference):
    return fidfast.mifid(samples, reference, mean_over="reference")


@pytest.mark.benchmark(group="precision and recall")
@pytest.mark.parametrize("tool", ["fidfast", "torch-fidelity"])
def test_precision_and_recall(benchmark, tool, sets):
    calls = {"fidfast": fidfast_precision_recall, "torch-fidelity": peers.torch_fidelity_precision_recall}
    if tool != "fidfast":  # its float32 distances may be on the other side of a radius
        assert calls[tool](*sets, 3) == pytest.approx(fidfast_precision_recall(*sets, 3), abs=5 / len(sets[0]))
    benchmark.pedantic(calls[tool], args=(*sets, 3), rounds=5 if tool == "fidfast" else 2)


@pytest.mark.benchmark(group="precision, recall, density and coverage")
@pytest.mark.parametrize("tool", ["fidfast", "prdc"])
def test_all_four(benchmark, tool, sets):
    calls = {"fidfast": fidfast_prdc, "prdc": peers.prdc_metrics}
    if tool != "fidfast":
        assert calls[tool](*sets, 5) == pytest.approx(fidfast_prdc(*sets, 5), abs=5 / len(sets[0]))
    benchmark.pedantic(calls[tool], args=(*sets, 5), rounds=5 if tool == "fidfast" else 1)


@pytest.mark.benchmark(group="MiFID")
@pytest.mark.parametrize("tool", ["fidfast", "torchmetrics"])
def test_mifid(benchmark, tool, sets):
    calls = {"fidfast": fidfast_mifid, "torchmetrics": peers.torchmetrics_mifid}
    if tool != "fidfast":
        assert calls[tool](*sets) == pytest.approx(fidfast_mifid(*sets), rel=1e-6)
    benchmark.pedantic(calls[tool], args=sets, rounds=5 if tool == "fidfast" else 1)
