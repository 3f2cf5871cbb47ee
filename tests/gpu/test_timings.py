"""Times compared with torch, printed and not asserted. Results are asserted."""

import time

import numpy as np
import pytest

import fidfast

DIM = 2048
#: By compute capability, float64 multiply-adds of a multiprocessor in a cycle, including tensor cores: CUDA C++
#: Programming Guide, "Arithmetic Instructions", and the data sheets of A100, H100 and B200.
MULTIPLY_ADDS = {(7, 0): 32, (7, 5): 2, (8, 0): 64, (8, 6): 2, (8, 9): 2, (9, 0): 128, (10, 0): 64, (12, 0): 2}


@pytest.fixture
def torch(request, gpu):
    if request.config.getoption("--standin", False):
        pytest.skip("the stand-in has no times")
    return pytest.importorskip("torch")


@pytest.fixture
def peaks(torch, gpu):
    """Peak GB/s and float64 GFLOP/s of the GPU, or None if unknown."""
    properties = torch.cuda.get_device_properties(gpu.name)
    clock, memory_clock = (1e3 * getattr(properties, name, 0) for name in ("clock_rate", "memory_clock_rate"))
    multiply_adds = MULTIPLY_ADDS.get((properties.major, properties.minor), 0)
    return (
        2 * memory_clock * getattr(properties, "memory_bus_width", 0) / 8 / 1e9 or None,
        2 * multiply_adds * properties.multi_processor_count * clock / 1e9 or None,
    )


def seconds(torch, work, repeats):
    """Seconds of one of `repeats` calls, the best of three rounds after a warm-up call."""
    work()
    times = []
    for _ in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / repeats)
    return min(times)


def of_peak(value, peak, unit):
    return f"{value:9.1f} {unit}" + (f" of {peak:.0f}" if peak else "")


class TorchMoments:
    """Mean and scatter in torch, in float64, by the update of Chan, Golub & LeVeque."""

    def __init__(self, torch, device):
        self.count = 0
        self.mean = torch.zeros(DIM, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(DIM, DIM, dtype=torch.float64, device=device)

    def update(self, batch):
        rows = batch.double()
        n = len(rows)
        mean = rows.mean(0)
        centred = rows - mean
        step = mean - self.mean
        share = n / (self.count + n)
        self.scatter.addmm_(centred.T, centred).addr_(step, step, alpha=self.count * share)
        self.mean += share * step
        self.count += n


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("n", [100, 1024, 10_000])
def test_updates(torch, gpu, peaks, print_timing, n, dtype):
    batch = torch.randn(n, DIM, device=gpu.name).to(getattr(torch, dtype))
    moments, in_torch = fidfast.Moments(DIM, device=gpu.name), TorchMoments(torch, gpu.name)
    repeats = max(3, 30_000 // n)
    our_seconds = seconds(torch, lambda: moments.update(batch), repeats)
    torch_seconds = seconds(torch, lambda: in_torch.update(batch), repeats)
    sigma = (in_torch.scatter / (in_torch.count - 1)).cpu().numpy()
    # The tolerance of float32 products, as in test_results.py.
    np.testing.assert_allclose(moments.stats().sigma, sigma, rtol=0, atol=17 * 64 * 2.0**-24 * sigma.max())
    bandwidth, arithmetic = peaks
    print_timing(
        f"update, {n:6} rows of {dtype:8}: {1e3 * our_seconds:9.3f} ms, torch {1e3 * torch_seconds:9.3f} ms "
        f"({torch_seconds / our_seconds:5.2f}x),"
        + of_peak(batch.numel() * batch.element_size() / our_seconds / 1e9, bandwidth, "GB/s")
        + ","
        + of_peak(n * DIM * (DIM + 1) / our_seconds / 1e9, arithmetic, "GFLOP/s")
    )


def test_distance(torch, gpu, print_timing):
    rows = [scale * torch.randn(3 * DIM, DIM, dtype=torch.float64, device=gpu.name) for scale in (1.0, 1.1)]
    moments = [fidfast.Moments(DIM, precision="float64", device=gpu.name) for _ in rows]
    for each, features in zip(moments, rows, strict=True):
        each.update(features)
    sigma1, sigma2 = (torch.cov(features.T) for features in rows)
    step = rows[0].mean(0) - rows[1].mean(0)

    def in_fidfast():
        return fidfast.frechet_distance(moments[0].stats(), moments[1].stats())

    def in_torch():
        factor = torch.linalg.cholesky(sigma1)
        root = torch.linalg.eigvalsh(factor.T @ sigma2 @ factor).clamp_min(0).sqrt().sum()
        return float(step @ step + sigma1.trace() + sigma2.trace() - 2 * root)

    found, expected = in_fidfast(), in_torch()
    assert abs(found - expected) <= 1e-9 * float(sigma1.trace() + sigma2.trace())
    our_seconds, torch_seconds = seconds(torch, in_fidfast, 1), seconds(torch, in_torch, 1)
    print_timing(
        f"distance at dim {DIM}, with its rounding bound: {our_seconds:.4f} s, torch's cholesky and eigvalsh "
        f"{torch_seconds:.4f} s ({torch_seconds / our_seconds:.2f}x)"
    )


def test_estimate(torch, gpu, print_timing):
    n = 10_000
    rows = [shift + torch.randn(n, DIM, device=gpu.name) for shift in (0.0, 0.05)]
    on_host = [features.cpu() for features in rows]
    start = time.perf_counter()
    expected = fidfast.estimate(*on_host)
    cpu_seconds = time.perf_counter() - start
    found = fidfast.estimate(*rows)
    # The CPU multiplies in float32: an error of 3e-5 / dim of the distance, most of which is bias.
    assert abs(found.value - expected.value) <= 1e-5 * expected.value
    assert abs(found.stderr - expected.stderr) <= 1e-3 * expected.stderr
    our_seconds = seconds(torch, lambda: fidfast.estimate(*rows), 1)
    print_timing(f"estimate of {n} rows of dim {DIM}: {our_seconds:.3f} s, on the CPU {cpu_seconds:.3f} s")
