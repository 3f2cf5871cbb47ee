"""Metrics of neighbours: the counts of float64 to the last pair, whatever arithmetic found them; the peers' numbers."""

import re
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import prdc
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

import fidfast
from fidfast import density_coverage, manifold_metrics, mifid, precision_recall

with warnings.catch_warnings():  # what the peers' imports say is not ours to mend
    warnings.simplefilter("ignore")
    import torch_fidelity.metric_prc
    import torchmetrics.image.mifid

seeds = st.integers(0, 2**32).map(np.random.default_rng)


def normal(rng, n, dim):
    return rng.standard_normal((n, dim))


def repeated(rng, n, dim):
    """Few rows, each many times: most radii are 0, and most distances equal a radius."""
    return rng.standard_normal((7, dim))[rng.integers(0, 7, n)]


def lattice(rng, n, dim):
    """Distances are whole numbers, so that ties are exact and many."""
    return rng.integers(0, 3, (n, dim)).astype(float)


def clusters(rng, n, dim):
    """So far apart that products in float32 say nothing within one."""
    return rng.integers(-3, 3, (n, 1)) * 1e6 + rng.standard_normal((n, dim)) * 1e-3


def far_off(rng, n, dim):
    return rng.standard_normal((n, dim)) + 1e5


def sparse(rng, n, dim):
    """As networks give them: no negative numbers, dead units, an outlier."""
    rows = np.maximum(rng.standard_normal((n, dim)) - 0.5, 0) * np.logspace(0, -2, dim)
    rows[:, dim // 2] = 0
    rows[n // 2] *= 1e3
    return rows


KINDS = [normal, repeated, lattice, clusters, far_off, sparse]


def all_four(real, fake, k, inclusive):
    """Through the three functions, which must agree."""
    four = manifold_metrics(real, fake, k, inclusive=inclusive)
    assert four[:2] == precision_recall(real, fake, k, inclusive=inclusive)
    assert four[2:] == density_coverage(real, fake, k, inclusive=inclusive)
    return four


# Counts are whole: shares agree but for the rounding of one division.
def assert_same(ours, theirs):
    assert ours == pytest.approx(theirs, rel=1e-14, abs=0)


# The oracle ---------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(KINDS), st.sampled_from([1, 2, 7, 33]), st.booleans(), st.data())
def test_counts_are_those_of_float64(rng, kind, dim, inclusive, data):
    n, m = data.draw(st.integers(2, 70)), data.draw(st.integers(2, 70))
    k = data.draw(st.integers(1, min(n, m) - 1))
    real, fake = np.split(kind(rng, n + m, dim), [n])
    dtype = data.draw(st.sampled_from([np.float64, np.float32, np.float16 if kind is lattice else np.float32]))
    real, fake = real.astype(dtype), fake.astype(np.float64 if data.draw(st.booleans()) else dtype)
    assert_same(all_four(real, fake, k, inclusive), reference.manifold_metrics(real, fake, k, inclusive))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m", "dim", "k"), [(1500, 1100, 20, 3), (140, 135, 9000, 2), (1100, 30, 3, 29)])
def test_counts_over_several_blocks(rng, kind, n, m, dim, k):
    real, fake = np.split(kind(rng, n + m, dim).astype(np.float32), [n])
    assert_same(all_four(real, fake, k, True), reference.manifold_metrics(real, fake, k, True))


def test_counts_of_more_rows_than_a_block_of_either_side(rng):
    real, fake = normal(rng, 4200, 6), normal(rng, 1100, 6) * 1.1
    for k, inclusive in ((1, True), (40, False)):
        expected = reference.manifold_metrics(real, fake, k, inclusive)
        assert_same(manifold_metrics(real, fake, k, inclusive=inclusive), expected)


@pytest.mark.parametrize("closeness", [1e-3, 1e-6, 1e-9, 1e-12])
def test_distances_that_narrow_arithmetic_cannot_tell_apart(rng, closeness):
    """Every two rows are the root of 2 apart but for a trifle, and each arithmetic in turn gives up."""
    n = 300
    rows = np.eye(n) * (1 + closeness * rng.standard_normal(n))
    real, fake = rows[::2], rows[1::2]
    assert_same(all_four(real, fake, 3, True), reference.manifold_metrics(real, fake, 3, True))


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**-140, 2.0**-70, 2.0**70, 2.0**120, 2.0**400])
def test_scale_changes_nothing(rng, scale):
    """Not where squares leave float32, whether the features do or not; powers of 2 round nothing."""
    real, fake = normal(rng, 90, 12), normal(rng, 80, 12)
    dtype = np.float64 if not 2.0**-141 < scale < 2.0**121 else np.float32
    real, fake = np.round(real * 64) / 64, np.round(fake * 64) / 64  # of 9 bits, so that none is lost to underflow
    scaled = [(rows * scale).astype(dtype) for rows in (real, fake)]
    assert all_four(*scaled, 3, True) == all_four(real, fake, 3, True)


# Laws ---------------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(KINDS), st.integers(1, 5), st.booleans())
def test_laws(rng, kind, k, inclusive):
    real, fake = np.split(kind(rng, 75, 5), [40])
    four = all_four(real, fake, k, inclusive)
    # Sets have no order, and recall is precision the other way round.
    assert all_four(rng.permutation(real), rng.permutation(fake), k, inclusive) == four
    assert precision_recall(fake, real, k, inclusive=inclusive) == (four.recall, four.precision)
    # A sample at the surface counts only where the balls are closed, and larger balls hold more.
    open_balls, closed_balls = (manifold_metrics(real, fake, k, inclusive=closed) for closed in (False, True))
    larger = manifold_metrics(real, fake, k + 1, inclusive=inclusive)
    assert all(a <= b for a, b in zip(open_balls, closed_balls, strict=True))
    assert all(four[i] <= larger[i] for i in (0, 1, 3))
    assert four.density * k <= larger.density * (k + 1) * (1 + 1e-14)
    # Every sample is in its own ball, whatever repeats.
    assert precision_recall(real, real, k) == (1.0, 1.0)
    assert density_coverage(real, real, k, inclusive=True).coverage == 1.0


def test_distinct_sets_have_nothing_in_common(rng):
    real, fake = normal(rng, 50, 4), normal(rng, 60, 4) + 100
    assert manifold_metrics(real, fake) == (0, 0, 0, 0)


def test_defaults_are_those_of_the_two_functions(rng):
    real, fake = normal(rng, 200, 6), normal(rng, 300, 6)
    four = manifold_metrics(real, fake)
    assert four == (*precision_recall(real, fake), *density_coverage(real, fake))
    assert four[:2] == manifold_metrics(real, fake, 3, inclusive=True)[:2]
    assert four[2:] == manifold_metrics(real, fake, 5, inclusive=False)[2:]
    assert density_coverage(real, fake[:1], 5).coverage > 0  # asks for no neighbours among generated samples


# Peers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [normal, sparse])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc(rng, kind, k, capsys):
    real, fake = np.split(kind(rng, 700, 24), [300])
    theirs = prdc.compute_prdc(real, fake, nearest_k=k)
    names = ("precision", "recall", "density", "coverage")
    assert_same(manifold_metrics(real, fake, k, inclusive=False), [theirs[name] for name in names])


def test_prdc_leaves_out_a_sample_at_the_radius(capsys):
    """In one dimension its distances are exact."""
    real, fake = np.arange(6.0).reshape(6, 1), np.array([[-1.0], [7.0], [2.5]])
    theirs = prdc.compute_prdc(real, fake, nearest_k=1)
    assert_same(manifold_metrics(real, fake, 1, inclusive=False)[2:], (theirs["density"], theirs["coverage"]))
    assert manifold_metrics(real, fake, 1, inclusive=True).density > theirs["density"]


@pytest.mark.parametrize("calculate", ["calculate_precision_recall_full", "calculate_precision_recall_part"])
@pytest.mark.parametrize("kind", [normal, lattice, sparse])
def test_torch_fidelity(rng, calculate, kind):
    real, fake = np.split(kind(rng, 700, 24), [300])
    # On whole numbers its products are exact, and so are its ties.
    theirs = getattr(torch_fidelity.metric_prc, calculate)(torch.from_numpy(fake), torch.from_numpy(real), 3, 128)
    # Its shares are means in float32.
    assert precision_recall(real, fake, 3) == pytest.approx(theirs, rel=1e-6)


def torchmetrics_mifid(features1, features2):
    """Its own function, whose first argument is the set that the cosine distances are averaged over."""
    sides = []
    for rows in (features1, features2):
        rows = torch.as_tensor(rows).double()  # as its update does
        sides += [rows.mean(0), torch.cov(rows.T), rows]
    return float(torchmetrics.image.mifid._mifid_compute(*sides))


def memorized(rng, training, n, dim, noise):
    """Samples of which half are near copies."""
    fake = sparse(rng, n, dim) + 0.3
    fake[: n // 2] = training[: n // 2] * 1.7 + noise * rng.standard_normal((n // 2, dim))
    return fake


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.05, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torchmetrics_mifid(rng, noise, dtype):
    real = (sparse(rng, 400, 24) + 0.2).astype(dtype)
    fake = memorized(rng, real, 300, 24, noise).astype(dtype)
    # Its root's trace has an error of some eps times the condition; ours of float32 rows is exact below dim 512.
    assert mifid(fake, real, mean_over="reference") == pytest.approx(torchmetrics_mifid(real, fake), rel=1e-8)
    assert mifid(fake, real) == pytest.approx(torchmetrics_mifid(fake, real), rel=1e-8)


class Passed(torch.nn.Module):
    num_features = 24

    def forward(self, features):
        return features


def test_torchmetrics_averages_over_the_reference(rng):
    """Through its public class: it asks of every real sample how near a generated one is, the paper the reverse."""
    real = np.abs(normal(rng, 300, 24))
    fake = real[:40] * rng.uniform(0.5, 2, (40, 1))  # every sample is a copy, of a part of the data
    metric = torchmetrics.image.mifid.MemorizationInformedFrechetInceptionDistance(feature=Passed())
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    theirs = float(metric.compute())
    assert mifid(fake, real, mean_over="reference") == pytest.approx(theirs, rel=1e-6)
    assert mifid(fake, real) > 1e6 * theirs


# The nearest cosine -------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([1, 2, 9, 40]), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_nearest_cosines(rng, dim, dtype, zeros):
    """Of either sign, and at any length of the rows."""
    rows, others = (normal(rng, n, dim) * 10.0 ** rng.uniform(-3, 3, (n, 1)) for n in (50, 60))
    if zeros:
        rows[::7] = others[:41] = 0
    rows, others = rows.astype(dtype), others.astype(dtype)
    expected = reference.mean_nearest_cosine_distance(rows, others)
    ours = fidfast._core.mean_nearest_cosine_distance(rows, others, True)
    # The oracle's cosines have dim roundings of eps / 2.
    assert ours == pytest.approx(expected, abs=(dim + 4) * 2.3e-16)
    assert fidfast._core.mean_nearest_cosine_distance(others, rows, False) == ours


@pytest.mark.parametrize("dim", [24, 3000])
def test_nearest_cosines_over_several_blocks(rng, dim):
    rows, others = np.maximum(normal(rng, 1500, dim), 0), np.maximum(normal(rng, 1100, dim), 0)
    ours = fidfast._core.mean_nearest_cosine_distance(rows, others, True)
    assert ours == pytest.approx(reference.mean_nearest_cosine_distance(rows, others), rel=1e-12)


def test_copies_have_no_cosine_distance_at_all(rng):
    rows = normal(rng, 50, 7)
    assert fidfast._core.mean_nearest_cosine_distance(rows[::-1], rows, True) == 0
    # Scaled by a power of 2 they have the same direction to the last bit; mirrored, the same line.
    assert fidfast._core.mean_nearest_cosine_distance(rows * -4.0, rows, True) == 0


def test_mifid_where_nothing_is_memorized(rng):
    real, fake = normal(rng, 300, 24), normal(rng, 200, 24)
    distance = reference.mean_nearest_cosine_distance(fake, real)
    assert 0.1 < distance < 1
    fid = fidfast.fid(fake, real)
    assert mifid(fake, real) == pytest.approx(fid, rel=1e-12)
    assert mifid(fake, real, threshold=1.0) == pytest.approx(fid / distance, rel=1e-11)
    assert mifid(real, real) == 0.0


# Features in any form -----------------------------------------------------------------------------------------------


def test_any_form_of_features(rng, tmp_path):
    real, fake = sparse(rng, 120, 8).astype(np.float32), sparse(rng, 90, 8).astype(np.float32) + 0.05
    expected = (manifold_metrics(real, fake), mifid(fake, real))
    np.save(tmp_path / "real.npy", real)
    np.savez(tmp_path / "fake.npz", features=fake, extractor="dino")
    torch.save(torch.from_numpy(fake), tmp_path / "fake.pt")
    forms = [
        (tmp_path / "real.npy", str(tmp_path / "fake.npz")),
        (np.load(tmp_path / "real.npy", mmap_mode="r"), tmp_path / "fake.pt"),
        (torch.from_numpy(real).requires_grad_(), np.asfortranarray(fake)),
        (np.repeat(real, 3, axis=1)[:, ::3], fake[::-1, ::-1][::-1, ::-1]),
        (real.astype(np.float64), fake.astype(">f4")),
    ]
    for one, two in forms:
        assert manifold_metrics(one, two) == expected[0]
        assert mifid(two, one) == pytest.approx(expected[1], rel=1e-9)  # other orders of the moments' sums


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, torch.bfloat16])
def test_narrow_features_are_their_values(rng, dtype):
    real, fake = normal(rng, 120, 8), normal(rng, 90, 8)
    if isinstance(dtype, torch.dtype):
        narrow = [torch.from_numpy(rows).to(dtype) for rows in (real, fake)]
        wide = [rows.double() for rows in narrow]
    else:
        narrow = [rows.astype(dtype) for rows in (real, fake)]
        wide = [rows.astype(np.float64) for rows in narrow]
    assert manifold_metrics(*narrow) == manifold_metrics(*wide)


# What is rejected ---------------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(1).standard_normal((20, 5))
POISONED = np.where(np.arange(100).reshape(20, 5) == 38, np.nan, ROWS)
NOT_FEATURES = "do not hold the features, which neighbours are found among"


def saved(folder):
    fidfast.GaussianStats(np.zeros(5), np.eye(5)).save(folder / "stats.npz")
    return folder / "stats.npz"


REJECTED = [
    (lambda _: precision_recall(ROWS, ROWS[:, :3]), ValueError, "samples has dim 3, but reference has dim 5"),
    (lambda _: precision_recall(ROWS[:3], ROWS), ValueError,
     "k=3 needs at least 4 rows; reference has 3"),
    (lambda _: precision_recall(ROWS, ROWS[:3]), ValueError,
     "k=3 needs at least 4 rows; samples has 3"),
    (lambda _: density_coverage(ROWS, ROWS, k=20), ValueError,
     "k=20 needs at least 21 rows; reference has 20"),
    (lambda _: manifold_metrics(ROWS, ROWS, k=0), ValueError,
     "k must be at least 1, got 0"),
    (lambda _: precision_recall(ROWS, ROWS, k=2.0), TypeError, "'float' object cannot be interpreted as an integer"),
    (lambda _: precision_recall(ROWS[:0], ROWS), ValueError, "reference has no rows"),
    (lambda _: density_coverage(ROWS, ROWS[:0]), ValueError, "samples has no rows"),
    (lambda _: precision_recall(ROWS, ROWS[0]), ValueError,
     "samples: features must be 2-D (n, dim), got shape (5,)"),
    (lambda _: precision_recall(ROWS.astype(int), ROWS), TypeError,
     "reference: features must be float16, bfloat16, float32 or float64, got int64"),
    (lambda _: precision_recall(ROWS, ROWS.tolist()), TypeError,
     "samples: features must be an array or tensor (n, dim), got list"),
    (lambda _: precision_recall(POISONED, ROWS), ValueError,
     "reference: features hold NaN or infinity; the first such row is 7"),
    (lambda _: mifid(POISONED, ROWS), ValueError,
     "samples: features hold NaN or infinity; the first such row is 7"),
    (lambda _: density_coverage(ROWS, ROWS * 1e200), ValueError,
     "samples: the squares of the features leave the range of float64"),
    (lambda _: precision_recall(fidfast.Moments(5), ROWS), TypeError, f"reference: Moments {NOT_FEATURES}"),
    (lambda folder: density_coverage(ROWS, fidfast.GaussianStats.load(saved(folder))), TypeError,
     f"generated: GaussianStats {NOT_FEATURES}"),
    (lambda folder: mifid(saved(folder), ROWS), ValueError,
     "generated: {folder}/stats.npz holds statistics, not features, which neighbours are found among"),
    (lambda folder: precision_recall(folder / "gone.npy", ROWS), FileNotFoundError, "no such file: {folder}/gone.npy"),
    (lambda folder: precision_recall(ROWS, folder / "stats.txt"), FileNotFoundError,
     "no such file: {folder}/stats.txt"),
    (lambda _: mifid(ROWS, ROWS * 0), ValueError, "reference: every row is zero, so no cosine is defined"),
    (lambda _: mifid(ROWS * 0, ROWS), ValueError, "samples: every row is zero, so no cosine is defined"),
    (lambda _: mifid(ROWS[:1], ROWS), ValueError, "generated: a covariance needs at least 2 samples, got 1"),
    (lambda _: mifid(ROWS, ROWS, mean_over="real"), ValueError,
     "mean_over must be 'generated' or 'reference', got 'real'"),
    (lambda _: mifid(ROWS, ROWS, threshold=0.0), ValueError, "threshold must be above 0 and at most 1, got 0.0"),
    (lambda _: mifid(ROWS, ROWS, precision="half"), ValueError,
     "generated: precision must be 'float32' or 'float64', got 'half'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), REJECTED, ids=[message for _, _, message in REJECTED])
def test_rejected_in_so_many_words(tmp_path, call, kind, message):
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert str(caught.value) == message.replace("{folder}", str(tmp_path))


def test_the_errors_are_documented():
    """Those that only these functions have stand in the table, up to names and numbers."""
    text = (Path(__file__).parents[1] / "docs" / "manifold.md").read_text(encoding="utf-8")
    documented = re.findall(r"`(?:TypeError|ValueError): (.*?)`", text)
    assert documented
    assert set(documented) <= {message.replace("{folder}/", "") for _, _, message in REJECTED}


def test_features_of_different_extractors_warn(tmp_path):
    for name in ("inception", "dino"):
        np.savez(tmp_path / f"{name}.npz", features=np.abs(ROWS), extractor=name)
    one, two = tmp_path / "inception.npz", tmp_path / "dino.npz"
    message = "the features come from different extractors, 'inception' and 'dino': their neighbours say nothing"
    for call in (lambda: precision_recall(one, two), lambda: density_coverage(one, two),
                 lambda: manifold_metrics(one, two), lambda: mifid(two, one)):  # fmt: skip
        with pytest.warns(UserWarning, match="different extractors") as caught:
            call()
        assert [str(warning.message) for warning in caught] == [message]
        assert caught[0].filename == __file__
