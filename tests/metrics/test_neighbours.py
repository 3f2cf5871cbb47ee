"""Metrics of nearest neighbours: exact float64 counts whatever arithmetic finds them; the numbers of other tools."""

import warnings

import ml_dtypes
import numpy as np
import prdc
import pytest
import reference as oracle
import torch
from hypothesis import given
from hypothesis import strategies as st

import fidfast
from fidfast import density_coverage, manifold_metrics, mifid, precision_recall

with warnings.catch_warnings():  # raised by the imports themselves
    warnings.simplefilter("ignore")
    import torch_fidelity.metric_prc
    import torchmetrics.image.mifid

seeds = st.integers(0, 2**32).map(np.random.default_rng)


def normal(rng, n, dim):
    return rng.standard_normal((n, dim))


def repeated(rng, n, dim):
    """7 distinct rows: most radii are 0, and most distances equal a radius."""
    return rng.standard_normal((7, dim))[rng.integers(0, 7, n)]


def lattice(rng, n, dim):
    """Squared distances are integers, so that there are many exact ties."""
    return rng.integers(0, 3, (n, dim)).astype(float)


def clusters(rng, n, dim):
    """Clusters so far apart that float32 products do not resolve distances within one."""
    return rng.integers(-3, 3, (n, 1)) * 1e6 + rng.standard_normal((n, dim)) * 1e-3


def far_from_origin(rng, n, dim):
    return rng.standard_normal((n, dim)) + 1e5


def sparse(rng, n, dim):
    """Like the features of a network: nonnegative, with a unit that is always 0 and an outlier."""
    rows = np.maximum(rng.standard_normal((n, dim)) - 0.5, 0) * np.logspace(0, -2, dim)
    rows[:, dim // 2] = 0
    rows[n // 2] *= 1e3
    return rows


KINDS = [normal, repeated, lattice, clusters, far_from_origin, sparse]


def all_four(samples, reference, k, inclusive):
    """From `manifold_metrics`; the other two functions must return the same."""
    four = manifold_metrics(samples, reference, k=k, inclusive=inclusive)
    shares = precision_recall(samples, reference, k=k, inclusive=inclusive)
    balls = density_coverage(samples, reference, k=k, inclusive=inclusive)
    assert tuple(four) == (*shares, *balls)
    return four


def assert_same(result, expected):
    """Equal counts: the shares differ by the rounding of a division."""
    assert tuple(result) == pytest.approx(tuple(expected), rel=1e-14, abs=0)


# The plain formulas -------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(KINDS), st.sampled_from([1, 2, 7, 33]), st.booleans(), st.data())
def test_counts_equal_those_of_float64(rng, kind, dim, inclusive, data):
    n, m = data.draw(st.integers(2, 70)), data.draw(st.integers(2, 70))
    k = data.draw(st.integers(1, min(n, m) - 1))
    reference, samples = np.split(kind(rng, n + m, dim), [n])
    dtype = data.draw(st.sampled_from([np.float64, np.float32, np.float16 if kind is lattice else np.float32]))
    reference, samples = reference.astype(dtype), samples.astype(np.float64 if data.draw(st.booleans()) else dtype)
    expected = oracle.manifold_metrics(reference, samples, k, inclusive)
    assert_same(all_four(samples, reference, k, inclusive), expected)


@pytest.mark.grid(keep=8)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m", "dim", "k"), [(1500, 1100, 20, 3), (140, 135, 9000, 2), (1100, 30, 3, 29)])
def test_counts_over_several_blocks(rng, kind, n, m, dim, k):
    reference, samples = np.split(kind(rng, n + m, dim).astype(np.float32), [n])
    assert_same(all_four(samples, reference, k, True), oracle.manifold_metrics(reference, samples, k, True))


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize(("k", "inclusive"), [(1, True), (40, False)])
def test_counts_over_several_blocks_of_both_sides(rng, k, inclusive):
    reference, samples = normal(rng, 4200, 6), normal(rng, 1100, 6) * 1.1
    expected = oracle.manifold_metrics(reference, samples, k, inclusive)
    assert_same(manifold_metrics(samples, reference, k=k, inclusive=inclusive), expected)


@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-9, 1e-12])
def test_distances_below_the_resolution_of_narrow_arithmetic(rng, spread):
    """All distances are sqrt(2) within `spread`, so that one arithmetic after the other does not suffice."""
    n = 300
    rows = np.eye(n) * (1 + spread * rng.standard_normal(n))
    reference, samples = rows[::2], rows[1::2]
    assert_same(all_four(samples, reference, 3, True), oracle.manifold_metrics(reference, samples, 3, True))


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**-140, 2.0**-70, 2.0**70, 2.0**120, 2.0**400])
def test_scale_does_not_matter(rng, scale):
    """Also if the squares, or the features, leave the range of float32. Powers of 2 do not round."""
    reference, samples = normal(rng, 90, 12), normal(rng, 80, 12)
    dtype = np.float64 if not 2.0**-141 < scale < 2.0**121 else np.float32
    # Numbers of 9 bits, which do not underflow.
    reference, samples = np.round(reference * 64) / 64, np.round(samples * 64) / 64
    scaled = [(rows * scale).astype(dtype) for rows in (samples, reference)]
    assert all_four(*scaled, 3, True) == all_four(samples, reference, 3, True)


# Invariances --------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(KINDS), st.integers(1, 5), st.booleans())
def test_invariances_and_inequalities(rng, kind, k, inclusive):
    reference, samples = np.split(kind(rng, 75, 5), [40])
    four = all_four(samples, reference, k, inclusive)
    # The order of rows does not matter; recall is precision with the arguments swapped.
    assert all_four(rng.permutation(samples), rng.permutation(reference), k, inclusive) == four
    swapped = precision_recall(reference, samples, k=k, inclusive=inclusive)
    assert (swapped.recall, swapped.precision) == (four.precision, four.recall)
    # Closed balls contain at least what open balls contain, and larger balls at least what smaller ones contain.
    open_balls, closed_balls = (manifold_metrics(samples, reference, k=k, inclusive=closed) for closed in (False, True))
    assert all(a <= b for a, b in zip(open_balls, closed_balls, strict=True))
    larger = manifold_metrics(samples, reference, k=k + 1, inclusive=inclusive)
    for name in ("precision", "recall", "coverage"):
        assert getattr(four, name) <= getattr(larger, name)
    assert four.density * k <= larger.density * (k + 1) * (1 + 1e-14)
    # Every sample is in its own ball, also if it is repeated.
    assert tuple(precision_recall(reference, reference, k=k)) == (1.0, 1.0)
    assert density_coverage(reference, reference, k=k, inclusive=True).coverage == 1.0


def test_sets_that_are_far_apart(rng):
    samples, reference = normal(rng, 60, 4) + 100, normal(rng, 50, 4)
    assert tuple(manifold_metrics(samples, reference)) == (0, 0, 0, 0)


def test_defaults_are_those_of_the_two_functions(rng):
    samples, reference = normal(rng, 300, 6), normal(rng, 200, 6)
    four = tuple(manifold_metrics(samples, reference))
    assert four == (*precision_recall(samples, reference), *density_coverage(samples, reference))
    assert four[:2] == tuple(manifold_metrics(samples, reference, k=3, inclusive=True))[:2]
    assert four[2:] == tuple(manifold_metrics(samples, reference, k=5, inclusive=False))[2:]
    # Density and coverage do not need neighbours among the samples.
    assert density_coverage(samples[:1], reference, k=5).coverage > 0


# Other tools --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [normal, sparse])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc(rng, kind, k, capsys):
    reference, samples = np.split(kind(rng, 700, 24), [300])
    expected = prdc.compute_prdc(reference, samples, nearest_k=k)
    result = manifold_metrics(samples, reference, k=k, inclusive=False)
    assert result.to_dict() == pytest.approx(expected, rel=1e-14, abs=0)


def test_prdc_excludes_a_sample_at_the_radius(capsys):
    """In one dimension its distances are exact."""
    reference, samples = np.arange(6.0).reshape(6, 1), np.array([[-1.0], [7.0], [2.5]])
    expected = prdc.compute_prdc(reference, samples, nearest_k=1)
    assert manifold_metrics(samples, reference, k=1, inclusive=False).to_dict() == pytest.approx(expected, rel=1e-14)
    assert manifold_metrics(samples, reference, k=1, inclusive=True).density > expected["density"]


@pytest.mark.parametrize("calculate", ["calculate_precision_recall_full", "calculate_precision_recall_part"])
@pytest.mark.parametrize("kind", [normal, lattice, sparse])
def test_torch_fidelity(rng, calculate, kind):
    reference, samples = np.split(kind(rng, 700, 24), [300])
    calculate = getattr(torch_fidelity.metric_prc, calculate)
    # Its products of integers are exact, and so are the ties of `lattice`. Its shares are float32 means.
    expected = calculate(torch.from_numpy(samples), torch.from_numpy(reference), 3, 128)
    assert tuple(precision_recall(samples, reference, k=3)) == pytest.approx(expected, rel=1e-6)


def torchmetrics_mifid(features1, features2):
    """Its own function, which averages the cosine distances over the rows of its first argument."""
    arguments = []
    for rows in (features1, features2):
        rows = torch.as_tensor(rows).double()  # as its update does
        arguments += [rows.mean(0), torch.cov(rows.T), rows]
    return float(torchmetrics.image.mifid._mifid_compute(*arguments))


def memorized(rng, training, n, dim, noise):
    """Samples, half of which are near copies."""
    samples = sparse(rng, n, dim) + 0.3
    samples[: n // 2] = training[: n // 2] * 1.7 + noise * rng.standard_normal((n // 2, dim))
    return samples


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.05, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torchmetrics_mifid(rng, noise, dtype):
    reference = (sparse(rng, 400, 24) + 0.2).astype(dtype)
    samples = memorized(rng, reference, 300, 24, noise).astype(dtype)
    # The trace of its root has an error of some eps times the condition number; moments of float32 rows are exact
    # below dim 512.
    over_reference = torchmetrics_mifid(reference, samples)
    assert mifid(samples, reference, mean_over="reference") == pytest.approx(over_reference, rel=1e-8)
    assert mifid(samples, reference) == pytest.approx(torchmetrics_mifid(samples, reference), rel=1e-8)


class Identity(torch.nn.Module):
    """An extractor that returns its input."""

    num_features = 24

    def forward(self, features):
        return features


def test_torchmetrics_averages_over_the_reference(rng):
    """Its public class averages the distance of each real row to the nearest sample; the paper does the reverse."""
    reference = np.abs(normal(rng, 300, 24))
    samples = reference[:40] * rng.uniform(0.5, 2, (40, 1))  # copies of a part of the data
    metric = torchmetrics.image.mifid.MemorizationInformedFrechetInceptionDistance(feature=Identity())
    metric.update(torch.from_numpy(reference), real=True)
    metric.update(torch.from_numpy(samples), real=False)
    expected = float(metric.compute())
    assert mifid(samples, reference, mean_over="reference") == pytest.approx(expected, rel=1e-6)
    assert mifid(samples, reference) > 1e6 * expected


# Cosine distances ---------------------------------------------------------------------------------------------------


def over_samples(samples, reference):
    return fidfast._core.mean_nearest_cosine_distance(samples, reference, True)


def over_reference(samples, reference):
    return fidfast._core.mean_nearest_cosine_distance(samples, reference, False)


@given(seeds, st.sampled_from([1, 2, 9, 40]), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_nearest_cosines(rng, dim, dtype, zeros):
    """Cosines of both signs, of rows with norms over 6 decades."""
    rows, others = (normal(rng, n, dim) * 10.0 ** rng.uniform(-3, 3, (n, 1)) for n in (50, 60))
    if zeros:
        rows[::7] = others[:41] = 0
    rows, others = rows.astype(dtype), others.astype(dtype)
    expected = oracle.mean_nearest_cosine_distance(rows, others)
    result = over_samples(rows, others)
    # Each cosine of the plain formula has dim roundings of eps / 2.
    assert result == pytest.approx(expected, abs=(dim + 4) * 2.3e-16)
    assert over_reference(others, rows) == result


@pytest.mark.parametrize("dim", [24, 3000])
def test_nearest_cosines_over_several_blocks(rng, dim):
    rows, others = np.maximum(normal(rng, 1500, dim), 0), np.maximum(normal(rng, 1100, dim), 0)
    expected = oracle.mean_nearest_cosine_distance(rows, others)
    assert over_samples(rows, others) == pytest.approx(expected, rel=1e-12)


def test_cosine_distance_of_copies_is_zero(rng):
    rows = normal(rng, 50, 7)
    assert over_samples(rows, rows[::-1]) == 0
    # Scaling by a power of 2 does not round, and the sign does not matter.
    assert over_samples(rows * -4.0, rows) == 0


def test_mifid_without_memorization(rng):
    samples, reference = normal(rng, 200, 24), normal(rng, 300, 24)
    distance = oracle.mean_nearest_cosine_distance(samples, reference)
    assert 0.1 < distance < 1
    fid = fidfast.fid(samples, reference)
    assert mifid(samples, reference) == pytest.approx(fid, rel=1e-12)
    assert mifid(samples, reference, threshold=1.0) == pytest.approx(fid / distance, rel=1e-11)
    assert mifid(reference, reference) == 0.0


# Arguments and results ----------------------------------------------------------------------------------------------


def test_arrays_tensors_and_files(rng, tmp_path):
    reference, samples = sparse(rng, 120, 8).astype(np.float32), sparse(rng, 90, 8).astype(np.float32) + 0.05
    expected = (manifold_metrics(samples, reference), mifid(samples, reference))
    np.save(tmp_path / "reference.npy", reference)
    np.savez(tmp_path / "samples.npz", features=samples, extractor="dino")
    torch.save(torch.from_numpy(samples), tmp_path / "samples.pt")
    forms = [
        (str(tmp_path / "samples.npz"), tmp_path / "reference.npy"),
        (tmp_path / "samples.pt", np.load(tmp_path / "reference.npy", mmap_mode="r")),
        (np.asfortranarray(samples), torch.from_numpy(reference).requires_grad_()),
        (samples[::-1, ::-1][::-1, ::-1], np.repeat(reference, 3, axis=1)[:, ::3]),
        (samples.astype(">f4"), reference.astype(np.float64)),
    ]
    for same_samples, same_reference in forms:
        assert manifold_metrics(same_samples, same_reference) == expected[0]
        # The sums of the moments may have another order.
        assert mifid(same_samples, same_reference) == pytest.approx(expected[1], rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, torch.bfloat16])
def test_narrow_features_equal_their_values_in_float64(rng, dtype):
    samples, reference = normal(rng, 90, 8), normal(rng, 120, 8)
    if isinstance(dtype, torch.dtype):
        narrow = [torch.from_numpy(rows).to(dtype) for rows in (samples, reference)]
        wide = [rows.double() for rows in narrow]
    else:
        narrow = [rows.astype(dtype) for rows in (samples, reference)]
        wide = [rows.astype(np.float64) for rows in narrow]
    assert manifold_metrics(*narrow) == manifold_metrics(*wide)


def test_results():
    reference = np.arange(8.0).reshape(8, 1)
    samples = reference[:4] + 0.25
    shares, balls = precision_recall(samples, reference, k=1), density_coverage(samples, reference, k=1)
    assert str(shares) == "precision 1.0000, recall 0.6250"
    assert str(balls) == "density 2.0000, coverage 0.6250"
    assert str(manifold_metrics(samples, reference, k=1, inclusive=True)).startswith(f"{shares}, density ")
    assert shares.to_dict() == {"precision": 1.0, "recall": 0.625}
    assert repr(balls) == "DensityCoverage(density=2.0, coverage=0.625)"


def test_different_extractors_warn(rng, tmp_path):
    for name in ("inception", "dino"):
        np.savez(tmp_path / f"{name}.npz", features=np.abs(normal(rng, 20, 5)), extractor=name)
    message = "the two inputs have different extractors, 'dino' and 'inception': the result is not meaningful"
    for metric in (precision_recall, density_coverage, manifold_metrics, mifid):
        with pytest.warns(UserWarning, match="different extractors") as caught:
            metric(tmp_path / "dino.npz", tmp_path / "inception.npz")
        assert [str(warning.message) for warning in caught] == [message]
        assert caught[0].filename == __file__
