"""From two sets of features to what their neighbours tell. Every case shows its answer first."""

import pytest

import fidfast
from benchmarks import peers


def ours_precision_recall(reference, generated, k):
    return fidfast.precision_recall(generated, reference, k=k)


def ours_prdc(reference, generated, k):
    return fidfast.manifold_metrics(generated, reference, k=k, inclusive=False)


def ours_mifid(reference, generated):
    return fidfast.mifid(generated, reference, mean_over="reference")


@pytest.mark.benchmark(group="precision and recall")
@pytest.mark.parametrize("tool", ["fidfast", "torch-fidelity"])
def test_precision_and_recall(benchmark, tool, sets):
    calls = {"fidfast": ours_precision_recall, "torch-fidelity": peers.torch_fidelity_precision_recall}
    if tool != "fidfast":  # its distances in float32 may move a sample over a radius
        assert calls[tool](*sets, 3) == pytest.approx(ours_precision_recall(*sets, 3), abs=5 / len(sets[0]))
    benchmark.pedantic(calls[tool], args=(*sets, 3), rounds=5 if tool == "fidfast" else 2)


@pytest.mark.benchmark(group="precision, recall, density and coverage")
@pytest.mark.parametrize("tool", ["fidfast", "prdc"])
def test_all_four(benchmark, tool, sets):
    calls = {"fidfast": ours_prdc, "prdc": peers.prdc_metrics}
    if tool != "fidfast":
        assert calls[tool](*sets, 5) == pytest.approx(ours_prdc(*sets, 5), abs=5 / len(sets[0]))
    benchmark.pedantic(calls[tool], args=(*sets, 5), rounds=5 if tool == "fidfast" else 1)


@pytest.mark.benchmark(group="MiFID")
@pytest.mark.parametrize("tool", ["fidfast", "torchmetrics"])
def test_mifid(benchmark, tool, sets):
    calls = {"fidfast": ours_mifid, "torchmetrics": peers.torchmetrics_mifid}
    if tool != "fidfast":
        assert calls[tool](*sets) == pytest.approx(ours_mifid(*sets), rel=1e-6)
    benchmark.pedantic(calls[tool], args=sets, rounds=5 if tool == "fidfast" else 1)
