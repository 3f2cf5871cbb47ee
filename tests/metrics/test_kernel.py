"""Kernel distances: compared with the plain formula and with other tools; invariances; standard errors."""

import subprocess
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidfast import cmmd, kid, kid_subsets
from fidfast._results import value_with_error

with warnings.catch_warnings():  # raised by the imports themselves
    warnings.simplefilter("ignore")
    import cleanfid.fid
    import torch_fidelity.metric_kid
    import torchmetrics.image.kid

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def kernels(a, b, **options):
    return [reference.polynomial_kernel(*pair, **options) for pair in ((a, a), (b, b), (a, b))]


def plain_cmmd(a, b, sigma):
    xx, yy, xy = (reference.gaussian_kernel(*pair, sigma) for pair in ((a, a), (b, b), (a, b)))
    return 1000 * (xx.mean() + yy.mean() - 2 * xy.mean())


def two_sets(rng, n, m, dim, shift=0.1):
    mixing = reference.rotation(dim, rng) * np.logspace(0, -1, dim)
    return rng.standard_normal((n, dim)) @ mixing, rng.standard_normal((m, dim)) @ mixing + shift


# The plain formula --------------------------------------------------------------------------------------------------

# Error of a mean of kernels in float64, relative to the largest: sums of n^2 numbers are rounded in some order.
ROUNDING = 1e-13


@given(seeds, st.integers(2, 30), st.integers(2, 30), st.integers(1, 9), st.integers(1, 5), st.floats(0, 3))
def test_kid_equals_the_plain_formula(rng, n, m, dim, degree, coef0):
    a, b = two_sets(rng, n, m, dim)
    options = {"degree": degree, "gamma": float(rng.uniform(0.1, 1)), "coef0": coef0}
    matrices = kernels(a, b, **options)
    size = max(np.abs(matrix).max() for matrix in matrices)
    assert kid(a, b, **options).value == pytest.approx(reference.unbiased_mmd(*matrices), abs=ROUNDING * size)


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize(("n", "m"), [(2048, 2049), (4100, 700), (2500, 2100)])
def test_kid_over_several_blocks_of_rows(rng, n, m):
    a, b = two_sets(rng, n, m, 12)
    matrices = kernels(a, b)
    distance = kid(a, b)
    size = max(np.abs(matrix).max() for matrix in matrices)
    assert distance.value == pytest.approx(reference.unbiased_mmd(*matrices), abs=ROUNDING * size)
    assert distance.num_samples == (n, m)


@given(seeds, st.integers(4, 7), st.integers(4, 7), st.integers(1, 4))
def test_standard_error_equals_the_mean_over_all_tuples(rng, n, m, dim):
    a, b = two_sets(rng, n, m, dim, shift=1.0)
    matrices = kernels(a, b)
    variance = reference.variance_of_unbiased_mmd(*matrices)
    size = max(np.abs(matrix).max() for matrix in matrices)
    # Differences of means of squared kernels; with 4 rows the weights of the means are up to 6.
    assert np.nan_to_num(kid(a, b).stderr) ** 2 == pytest.approx(max(variance, 0), abs=50 * ROUNDING * size**2)


@given(seeds, st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.sampled_from([0.01, 0.3, 1.0, 10.0, 1e3]))
def test_cmmd_equals_the_plain_formula(rng, n, m, dim, sigma):
    a, b = two_sets(rng, n, m, dim)
    # Kernels are at most 1; the squared differences of the plain formula are as accurate as those of cmmd.
    assert cmmd(a, b, sigma=sigma) == pytest.approx(plain_cmmd(a, b, sigma), abs=1000 * ROUNDING)


def test_cmmd_equals_the_formula_of_its_authors(rng):
    """Unit rows, as in CLIP, and the default sigma."""
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in two_sets(rng, 2300, 2100, 24))
    norms = [np.sum(rows**2, axis=1) for rows in (a, b)]

    def mean(x, y, of_x, of_y):
        return np.mean(np.exp(-(1 / (2 * 10**2)) * (-2 * (x @ y.T) + of_x[:, None] + of_y)))

    theirs = 1000 * (mean(a, a, norms[0], norms[0]) + mean(b, b, norms[1], norms[1]) - 2 * mean(a, b, *norms))
    assert cmmd(a, b) == pytest.approx(theirs, abs=1000 * ROUNDING)
    # float32 changes the rows by 2^-24 of their norm, and the distance by 1000 (1e-7) sqrt(1e-5).
    assert cmmd(np.float32(a), np.float32(b)) == pytest.approx(theirs, abs=1e-6)


# Error of float32 products -------------------------------------------------------------------------------------------


def narrow_sets(rng, kind, dim=512, n=1500):
    spread = np.logspace(0, -3, dim)
    normal = rng.standard_normal((2 * n, dim))
    shift = np.repeat([0.0, 1.0], n)[:, None]
    rows = {
        "network": np.maximum(normal @ rng.standard_normal((dim, dim)) * 0.05 + 0.1 + 0.05 * shift, 0),
        "same distribution": np.maximum(normal, 0),
        "far from the origin": normal + 30 + 0.1 * shift,
        "shifted where the variance is low": normal * spread + 3 * spread[-1] * shift,
        "heavy tails": normal * rng.standard_t(3, (2 * n, 1)) + 0.3 * shift,
    }[kind]
    return np.float32(rows[:n]), np.float32(rows[n:])


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize("n", [1500, 1000])  # below and above 2 dim
@pytest.mark.parametrize(
    "kind", ["network", "same distribution", "far from the origin", "shifted where the variance is low", "heavy tails"]
)
def test_error_of_narrow_products_is_below_the_standard_error(rng, kind, n):
    a, b = narrow_sets(rng, kind, n=n)
    exact = kid(a, b, precision="float64")
    assert exact == kid(np.float64(a), np.float64(b))
    narrow = kid(a, b)
    # An order of magnitude: rounding adds noise of the order 2^-11 / sqrt(n) to the second-order part of the kernel, or
    # 2^-7 / sqrt(n) to its third-order part; the standard error is 1 / sqrt(n) of the first-order part. Measured: 1e-8
    # to 9e-5 standard errors.
    assert abs(narrow.value - exact.value) <= 1e-3 * exact.stderr
    assert narrow.stderr == pytest.approx(exact.stderr, rel=1e-3)


REAL = Path(__file__).parents[3] / "shared" / "features"


def test_error_of_narrow_products_of_real_features():
    if not REAL.exists():
        pytest.skip("needs the features in shared/features, next to the checkout")
    a, b = (np.load(REAL / f"emoji_{style}.npy")[:1200] for style in ("google", "twitter"))
    exact, narrow = kid(a, b, precision="float64"), kid(a, b)
    assert exact.value == pytest.approx(reference.unbiased_mmd(*kernels(np.float64(a), np.float64(b))), abs=1e-13)
    assert abs(narrow.value - exact.value) <= 1e-4 * exact.stderr


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_features_of_any_scale(rng, scale):
    """A homogeneous kernel of degree 2 scales with scale^4. The squares of these float32 rows overflow float32."""
    a, b = (np.float32(rows) for rows in two_sets(rng, 300, 200, 40))
    scaled_a, scaled_b = (np.float32(rows * np.float32(scale)) for rows in (a, b))
    options = {"degree": 2, "coef0": 0.0}
    expected = kid(np.float64(scaled_a) / scale, np.float64(scaled_b) / scale, **options)
    scaled = kid(scaled_a, scaled_b, **options)
    assert scaled.value / scale**4 == pytest.approx(expected.value, abs=1e-3 * expected.stderr)
    assert cmmd(scaled_a, scaled_b, sigma=scale) == pytest.approx(cmmd(a, b, sigma=1.0), rel=1e-5)


# Invariances --------------------------------------------------------------------------------------------------------


@given(seeds, st.integers(4, 40), st.integers(4, 40), st.integers(1, 9))
def test_order_of_arguments_and_rows_does_not_matter(rng, n, m, dim):
    a, b = two_sets(rng, n, m, dim)
    distance, swapped = kid(a, b), kid(rng.permutation(b), rng.permutation(a))
    size = max(np.abs(matrix).max() for matrix in kernels(a, b))
    assert swapped.value == pytest.approx(distance.value, abs=ROUNDING * size)
    first, second = np.nan_to_num([distance.stderr, swapped.stderr]) ** 2
    assert first == pytest.approx(second, abs=50 * ROUNDING * size**2)
    assert swapped.num_samples == distance.num_samples[::-1]
    assert cmmd(rng.permutation(b), a) == pytest.approx(cmmd(a, b), abs=1000 * ROUNDING)


@given(seeds, st.integers(1, 9), st.floats(-100, 100), st.floats(0.1, 10))
def test_rotation_translation_and_scale(rng, dim, shift, scale):
    a, b = two_sets(rng, 30, 20, dim)
    rotation = reference.rotation(dim, rng)
    size = max(np.abs(matrix).max() for matrix in kernels(a, b))
    assert kid(a @ rotation, b @ rotation).value == pytest.approx(kid(a, b).value, abs=10 * ROUNDING * size)
    homogeneous = kid(a * scale, b * scale, coef0=0.0).value / scale**6
    assert homogeneous == pytest.approx(kid(a, b, coef0=0.0).value, abs=10 * ROUNDING * size)
    moved = cmmd(a @ rotation * scale + shift, b @ rotation * scale + shift, sigma=10 * scale)
    # The sum rounds the rows by eps |shift| / scale of their size; the root of the distance changes by that over sigma.
    assert moved == pytest.approx(cmmd(a, b), abs=1e-8)


def test_linear_kernel_compares_the_means(rng):
    a, b = two_sets(rng, 50, 70, 6)
    squares = np.sum((a.mean(0) - b.mean(0)) ** 2)
    bias = np.trace(np.cov(a, rowvar=False)) / 50 + np.trace(np.cov(b, rowvar=False)) / 70
    linear = kid(a, b, degree=1, gamma=1.0, coef0=0.0)
    assert linear.value == pytest.approx(squares - bias, rel=1e-12)
    assert kid(a + 7, b + 7, degree=1, gamma=1.0, coef0=5.0).value == pytest.approx(squares - bias, rel=1e-11)


@given(seeds, st.integers(1, 20), st.integers(1, 6), st.sampled_from([np.float32, np.float64]))
def test_cmmd_of_equal_sets_is_zero_and_cmmd_is_never_negative(rng, n, dim, dtype):
    rows = rng.standard_normal((n, dim)).astype(dtype)
    for same in (rows, rng.permutation(rows), rows.astype(np.float64), np.repeat(rows, 3, axis=0)):
        assert cmmd(rows, same) == cmmd(same, rows, sigma=0.3) == 0
    assert cmmd(rows, rows + 1) > 0 < cmmd(rows, np.concatenate([rows, rows[:1] + 1]))


def test_no_digits_are_lost_far_from_the_origin(rng):
    """Integers shifted by an integer: the kernels are integers up to 1e16, with a small difference."""
    a, b = (rng.integers(-3, 4, (60, 4)).astype(float) for _ in range(2))
    exact = reference.unbiased_mmd(*(k.astype(np.longdouble) for k in kernels(a + 3e3, b + 3e3, degree=2, gamma=1.0)))
    assert kid(a + 3e3, b + 3e3, degree=2, gamma=1.0).value == pytest.approx(float(exact), rel=1e-10)


# The standard error -------------------------------------------------------------------------------------------------


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize(("n", "m", "shift"), [(60, 40, 0.5), (30, 90, 0.5), (80, 80, 0.0)])
def test_standard_error_equals_the_spread_over_draws(n, m, shift):
    rng = np.random.default_rng(7)
    draws = [kid(rng.standard_normal((n, 3)), rng.standard_normal((m, 3)) * 1.1 + shift) for _ in range(1500)]
    values = np.array([draw.value for draw in draws])
    variances = np.nan_to_num([draw.stderr for draw in draws]) ** 2  # none if the estimate is negative
    # The variance over 1,500 draws has the relative error sqrt((kurtosis - 1) / 1500), and the mean of the estimates an
    # error of its spread; one seed in 10^4 exceeds four times both.
    kurtosis = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    error = np.hypot(np.sqrt((kurtosis - 1) / 1500) * values.var(), variances.std() / np.sqrt(1500))
    assert abs(variances.mean() - values.var()) <= 4 * error
    assert error <= 0.1 * values.var()
    # The value is unbiased: its mean is the distance of the distributions, here from many more samples.
    exact = kid(rng.standard_normal((6000, 3)), rng.standard_normal((6000, 3)) * 1.1 + shift)
    assert abs(values.mean() - exact.value) <= 4 * np.hypot(values.std() / np.sqrt(1500), exact.stderr)


@pytest.mark.parametrize(("n", "m"), [(2, 100), (100, 3)])
def test_standard_error_of_fewer_than_4_samples_is_nan(rng, n, m):
    a, b = two_sets(rng, n, m, 3)
    assert kid(a, b).value == pytest.approx(reference.unbiased_mmd(*kernels(a, b)), abs=1e-12)
    assert np.isnan(kid(a, b).stderr)


# Other tools --------------------------------------------------------------------------------------------------------


def torch_fidelity_kid(a, b, **options):
    arguments = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "verbose": False}
    arguments |= {"kid_kernel_poly_coef0": 1.0, "kid_subsets": 7, "kid_subset_size": 50, "rng_seed": 2020} | options
    metric = torch_fidelity.metric_kid.kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **arguments)
    return metric["kernel_inception_distance_mean"], metric["kernel_inception_distance_std"]


class Identity(torch.nn.Module):
    """An extractor that returns its input."""

    num_features = 64

    def forward(self, features):
        return features


def torchmetrics_kid(samples, reference, **options):
    with pytest.warns(UserWarning, match="save all extracted features"):
        metric = torchmetrics.image.kid.KernelInceptionDistance(Identity(), subsets=7, subset_size=50, **options)
    metric.update(torch.from_numpy(reference), real=True)
    metric.update(torch.from_numpy(samples), real=False)
    return tuple(map(float, metric.compute()))


def tolerance(a, b, dtype):
    # Rounding error of the tools: sqrt(k) u |x| |y| on average for a sum of k products, three times that for its cube,
    # and at most u log2(2500) of the largest kernel for the sum of kernels.
    largest = max(matrix.max() for matrix in kernels(np.float64(a), np.float64(b)))
    return 4 * float(np.finfo(dtype).eps) / 2 * (3 * a.shape[1] ** 0.5 + 12) * largest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"degree": 2, "gamma": 0.05, "coef0": 0.5}])
def test_subsets_of_torch_fidelity(rng, dtype, options):
    a, b = (np.abs(rows).astype(dtype) for rows in two_sets(rng, 200, 130, 64))
    theirs = {f"kid_kernel_poly_{key}": value for key, value in options.items()}
    means = []
    for seed in (2020, 5):
        result = kid_subsets(a, b, subsets=7, subset_size=50, seed=seed, **options)
        expected = torch_fidelity_kid(a, b, rng_seed=seed, **theirs)
        assert (result.mean, result.std) == pytest.approx(expected, abs=tolerance(a, b, dtype))
        means.append(result.mean)
    assert means[0] != means[1]
    assert kid_subsets(a, b, subsets=7, subset_size=50, **options).mean == means[0]


def test_subsets_of_torchmetrics(rng):
    a, b = (np.abs(rows).astype(np.float32) for rows in two_sets(rng, 200, 130, 64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        theirs = torchmetrics_kid(a, b)
        torch.manual_seed(11)
        ours = kid_subsets(a, b, subsets=7, subset_size=50, seed=None, like="torchmetrics")
        state = torch.get_rng_state()
        again = kid_subsets(a, b, subsets=7, subset_size=50, seed=11, like="torchmetrics")
        assert torch.equal(torch.get_rng_state(), state)  # a seed does not change torch's global generator
    assert (ours.mean, ours.std) == pytest.approx(theirs, abs=tolerance(a, b, np.float32))
    np.testing.assert_array_equal(again.values, ours.values)


@pytest.mark.parametrize("n", [200, 30])
def test_subsets_of_clean_fid(rng, n):
    """With fewer rows than `max_subset_size` its subsets are smaller."""
    a, b = (np.abs(rows) for rows in two_sets(rng, n, 130, 64))
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(3)  # noqa: NPY002
        theirs = cleanfid.fid.kernel_distance(a, b, num_subsets=7, max_subset_size=50)
        np.random.seed(3)  # noqa: NPY002
        ours = kid_subsets(a, b, subsets=7, subset_size=50, seed=None, like="clean-fid")
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert float(ours) == pytest.approx(theirs, abs=tolerance(a, b, np.float64))
    again = kid_subsets(a, b, subsets=7, subset_size=50, seed=3, like="clean-fid")
    np.testing.assert_array_equal(again.values, ours.values)


@pytest.mark.parametrize("peer", ["torch-fidelity", "torchmetrics"])
def test_functions_of_other_tools_on_all_rows(rng, peer):
    a, b = (np.abs(rows) for rows in two_sets(rng, 150, 150, 64))
    if peer == "torchmetrics":
        theirs = float(torchmetrics.image.kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))
    else:
        theirs = torch_fidelity.metric_kid.mmd2(*(kernels(a, b)[k] for k in (0, 2, 1)))
    assert float(kid(a, b)) == pytest.approx(theirs, abs=tolerance(a, b, np.float64))


def test_mean_and_std_are_over_the_subsets(rng):
    a, b = two_sets(rng, 90, 80, 5)
    result = kid_subsets(a, b, subsets=9, subset_size=80)
    draws = np.random.RandomState(2020)
    first = [draws.choice(n, 80, replace=False) for n in (90, 80)]
    matrices = kernels(a[first[0]], b[first[1]])
    assert result.values[0] == pytest.approx(reference.unbiased_mmd(*matrices), abs=1e-12)
    assert (result.mean, result.std) == (result.values.mean(), result.values.std())


def test_kid_subsets_does_not_import_torch():
    code = "import sys, numpy as np, fidfast; a = np.ones((9, 3)); fidfast.kid_subsets(a, a, subset_size=5)"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True, cwd="/")


# Arguments and results ----------------------------------------------------------------------------------------------


def test_results():
    rows = np.random.default_rng(0).standard_normal((10, 2))
    distance = kid(rows, rows + 1)
    assert float(distance) == distance.value
    assert tuple(distance) == (distance.value, distance.stderr, distance.num_samples)
    assert distance.to_dict() == {"value": distance.value, "stderr": distance.stderr, "num_samples": [10, 10]}
    assert str(distance) == value_with_error(distance.value, distance.stderr)
    assert str(kid(rows[:3], rows + 1)).endswith("error bar: it needs at least 4 samples; samples has 3")
    assert repr(distance) == (
        f"KernelDistance(value={distance.value!r}, stderr={distance.stderr!r}, num_samples=(10, 10))"
    )
    of_subsets = kid_subsets(rows, rows + 1, subsets=3, subset_size=5)
    assert float(of_subsets) == of_subsets.mean
    assert repr(of_subsets) == f"SubsetKernelDistance(mean={of_subsets.mean!r}, std={of_subsets.std!r}, subsets=3)"
    assert str(of_subsets) == f"{of_subsets.mean:.6g}, standard deviation {of_subsets.std:.2g} over 3 subsets"
    assert (of_subsets.subset_size, of_subsets.seed, of_subsets.like) == (5, 2020, "torch-fidelity")
    of_few = kid_subsets(rows, rows + 1, subsets=2, seed=3, like="clean-fid")
    assert (of_few.subset_size, of_few.seed, of_few.like) == (10, 3, "clean-fid")
    assert of_subsets.to_dict()["values"] == of_subsets.values.tolist()
    assert type(cmmd(rows, rows + 1)) is float


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_dtypes_and_strides(rng, dtype):
    a, b = (rows.astype(dtype) for rows in two_sets(rng, 40, 30, 6))
    wide = kid(a.astype(np.float64), b.astype(np.float64), precision="float64")
    exact = kid(a, b, precision="float64")
    assert exact.value == pytest.approx(wide.value, abs=1e-13)
    for view in (np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1].copy()[::-1]):
        assert kid(view, b, precision="float64") == exact
    one = kid_subsets(a, b, subsets=3, subset_size=20)
    other = kid_subsets(np.asfortranarray(a), b, subsets=3, subset_size=20)
    np.testing.assert_array_equal(one.values, other.values)
    mixed = kid(a, b.astype(np.float64))
    assert mixed.value == pytest.approx(wide.value, abs=1e-3 * wide.stderr)


def test_tensors_and_files(rng, tmp_path):
    a, b = (np.float32(rows) for rows in two_sets(rng, 40, 30, 6))
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "b.npz", features=b)
    expected = kid(a, b)
    assert kid(torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)) == expected
    assert kid(tmp_path / "a.npy", str(tmp_path / "b.npz")) == expected
    assert kid(np.load(tmp_path / "a.npy", mmap_mode="r"), b) == expected
    assert cmmd(tmp_path / "a.npy", b) == cmmd(a, b)
    subsets = kid_subsets(tmp_path / "a.npy", torch.from_numpy(b), subset_size=9)
    np.testing.assert_array_equal(subsets.values, kid_subsets(a, b, subset_size=9).values)


def test_different_extractors_warn(rng, tmp_path):
    for name in ("inception", "dino"):
        np.savez(tmp_path / f"{name}.npz", features=rng.standard_normal((9, 2)), extractor=name)
    for call in (kid, cmmd, lambda a, b: kid_subsets(a, b, subset_size=5)):
        with pytest.warns(UserWarning, match="different extractors, 'inception' and 'dino'"):
            call(tmp_path / "inception.npz", tmp_path / "dino.npz")
