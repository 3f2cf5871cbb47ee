"""The numbers of a report are those of the metrics, and missing metrics have a reason."""

import json

import numpy as np
import pytest

import fidfast
from fidfast._report.build import NUM_SUBSETS

PAIRS = ("kid", "cmmd", "precision_recall", "density_coverage")


def normal(n, dim=6, shift=0.0, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)) + shift


def words(text):
    """The text on one line: the table wraps its notes."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def sides():
    return normal(220, shift=0.4), normal(150, seed=1)


@pytest.fixture(scope="module")
def found(sides):
    return fidfast.report(*sides)


# Numbers ------------------------------------------------------------------------------------------------------------


def test_numbers_equal_those_of_the_metrics(sides, found):
    assert found.estimate == fidfast.estimate(*sides)
    assert found.kid == fidfast.kid(*sides)
    assert found.precision_recall == fidfast.precision_recall(*sides)
    assert found.density_coverage == fidfast.density_coverage(*sides)
    stats = fidfast.Moments(6)
    stats.update(sides[1])
    extrapolation = fidfast.fid_infinity(sides[0], stats.stats(), num_points=NUM_SUBSETS)
    np.testing.assert_array_equal(found.extrapolation.distances, extrapolation.distances)
    assert found.extrapolation.value == extrapolation.value
    other = fidfast.report(*sides, all_pairs=False, seed=1).extrapolation
    again = fidfast.fid_infinity(sides[0], stats.stats(), num_points=NUM_SUBSETS, seed=1)
    assert other.to_dict() == again.to_dict() != extrapolation.to_dict()
    assert found.mean_term == pytest.approx(np.sum((sides[0].mean(0) - sides[1].mean(0)) ** 2))
    for spectrum, side in zip(found.spectra, sides, strict=True):
        np.testing.assert_allclose(spectrum, np.linalg.eigvalsh(np.cov(side.T))[::-1], rtol=1e-12)


def test_the_most_harmful_samples_have_the_largest_influence(sides, found):
    influence = fidfast.influence(*sides)
    worst = np.argsort(-influence)
    assert [sample.row for sample in found.most_harmful] == worst[:12].tolist()
    # The same sums with and without the reference's replicates: equal up to rounding.
    np.testing.assert_allclose([sample.influence for sample in found.most_harmful], influence[worst[:12]], rtol=1e-8)
    assert found.most_harmful[0].name == f"row {worst[0]}"
    assert found.trimmed.num_samples == 2  # 1 % of 220
    left = np.delete(sides[0], worst[:2], axis=0)
    assert found.trimmed.value == pytest.approx(fidfast.fid(left, sides[1]), rel=1e-9)
    assert len(fidfast.report(*sides, most_harmful=3, all_pairs=False).most_harmful) == 3
    assert fidfast.report(*sides, most_harmful=0, all_pairs=False).most_harmful == ()


def test_rows_are_read_in_slices(monkeypatch, sides, found):
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 50)
    again = fidfast.report(*sides)
    assert again.trimmed.value == pytest.approx(found.trimmed.value, rel=1e-12)
    assert [sample.row for sample in again.most_harmful] == [sample.row for sample in found.most_harmful]


def test_dead_units_and_rank():
    features = normal(50, 5)
    features[:, 1] = 3.0
    features[:, 4] = features[:, 0] - features[:, 2]
    found = fidfast.report(features, normal(4, 5, seed=1))
    assert found.dead_units == (1, 0)
    assert found.ranks == (3, 3)  # one dead unit and one linear combination; 4 samples have rank 3
    assert "rank 3, 1 dead unit " in words(found.table())


def test_cmmd_needs_rows_of_unit_norm(sides):
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    found = fidfast.report(*unit)
    assert found.cmmd == fidfast.cmmd(*unit)
    assert "cmmd" not in found.reasons
    assert fidfast.report(*(side.astype(np.float16) for side in unit)).cmmd is not None
    assert fidfast.report(unit[0], sides[1]).reasons["cmmd"] == (
        "defined for rows of unit norm (CLIP features); those of reference are not"
    )


def test_tensors(sides, found):
    torch = pytest.importorskip("torch")
    again = fidfast.report(*map(torch.from_numpy, sides))
    assert {**again.to_dict(), "created": None} == {**found.to_dict(), "created": None}


# Missing metrics -----------------------------------------------------------------------------------------------------


def stats_of(rows):
    moments = fidfast.Moments(rows.shape[1])
    moments.update(rows)
    return moments.stats()


def test_statistics_as_samples(sides):
    found = fidfast.report(stats_of(sides[0]), sides[1])
    assert found.estimate.note is None  # that of the reference's samples
    assert found.reasons == {
        "most_harmful": "samples: influence needs the (n, dim) features themselves, got GaussianStats",
        "extrapolation": "samples: fid_infinity needs the (n, dim) features themselves, got GaussianStats",
        **{name: f"samples: {name} needs the (n, dim) features themselves, got GaussianStats" for name in PAIRS},
    }
    assert (found.most_harmful, found.trimmed, found.extrapolation, found.kid, found.cmmd) == (None,) * 5
    assert (found.precision_recall, found.density_coverage) == (None, None)


def test_statistics_as_reference(sides, found):
    again = fidfast.report(sides[0], stats_of(sides[1]))
    assert again.reasons == {
        name: f"reference: {name} needs the (n, dim) features themselves, got GaussianStats" for name in PAIRS
    }
    assert again.trimmed == found.trimmed
    assert again.estimate.value == found.estimate.value
    assert again.estimate.stderr < found.estimate.stderr


def test_statistics_as_samples_and_reference(sides):
    found = fidfast.report(*map(stats_of, sides))
    assert found.reasons["estimate"] == (
        "samples has no samples to estimate an error from: pass the (n, dim) features or Moments(dim, blocks=20)"
    )
    assert found.reasons["kid"] == "samples: kid needs the (n, dim) features themselves, got GaussianStats"
    assert found.estimate.value == fidfast.fid(*sides)
    assert found.headline == f"Fréchet distance {found.estimate.value:.6g}"
    assert found.num_samples == (220, 150)


def test_moments_with_blocks_have_an_error_bar_but_no_rows(sides):
    moments = fidfast.Moments(6, blocks=20)
    moments.update(sides[0])
    found = fidfast.report(moments, stats_of(sides[1]))
    assert found.estimate.stderr > 0
    assert set(found.reasons) == {"most_harmful", "extrapolation", *PAIRS}


def test_too_few_samples_in_blocks(sides):
    moments = fidfast.Moments(6, blocks=2)
    moments.update(sides[0][:3])
    reason = "samples has 3 samples; the jackknife leaves out 2 at a time and needs at least 4"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        fidfast.estimate(moments, sides[1])
    found = fidfast.report(moments, sides[1])
    assert found.reasons["estimate"] == reason
    assert found.estimate.value == fidfast.fid(sides[0][:3], sides[1])


@pytest.mark.parametrize(
    ("n", "m", "reasons"),
    [
        (
            2,
            40,
            {
                "estimate": "samples has 2 samples; the jackknife leaves out 1 at a time and needs at least 3",
                "most_harmful": "samples has 2 samples; the jackknife leaves out 1 at a time and needs at least 3",
                "extrapolation": "extrapolation needs at least 4 samples; samples has 2",
                "precision_recall": "k = 3 needs at least 4 samples; samples has 2",
            },
        ),
        (
            40,
            4,
            {
                "estimate": "reference has 4 samples; an error bar needs at least 7, "
                "2 per direction with nonzero variance (3) plus 1",
                "density_coverage": "k = 5 needs at least 6 samples; reference has 4",
            },
        ),
        (
            40,
            2,
            {
                "estimate": "reference has 2 samples; the jackknife leaves out 1 at a time and needs at least 3",
                "most_harmful": "reference has 2 samples; the jackknife leaves out 1 at a time and needs at least 3",
                "precision_recall": "k = 3 needs at least 4 samples; reference has 2",
                "density_coverage": "k = 5 needs at least 6 samples; reference has 2",
            },
        ),
        (
            4,
            40,
            {
                "estimate": "samples has 4 samples; an error bar needs at least 7, "
                "2 per direction with nonzero variance (3) plus 1"
            },
        ),
    ],
)
def test_too_few_samples(n, m, reasons):
    sides = normal(n), normal(m, seed=1)
    found = fidfast.report(*sides)
    assert found.reasons == reasons | {
        "cmmd": "defined for rows of unit norm (CLIP features); those of samples are not"
    }
    if found.precision_recall is not None:
        assert found.precision_recall == fidfast.precision_recall(*sides)
    if found.density_coverage is not None:
        assert found.density_coverage == fidfast.density_coverage(*sides)
    assert found.estimate.value == fidfast.fid(*sides)
    for reason in reasons.values():
        assert reason in words(found.table())


def test_all_pairs_false_skips_the_metrics_of_pairs(sides):
    found = fidfast.report(*sides, all_pairs=False)
    assert found.reasons == dict.fromkeys(PAIRS, "skipped (all_pairs=False)")


def test_the_label_depends_on_the_extractors(tmp_path, sides):
    for name, extractor in (("a", "inception"), ("b", "inception"), ("c", "dino")):
        np.savez(tmp_path / f"{name}.npz", features=sides[name != "a"], extractor=extractor)
    found = fidfast.report(tmp_path / "a.npz", tmp_path / "b.npz")
    assert found.label == "FID"
    assert found.headline.startswith("FID ")
    assert "\nKID " in found.table()
    assert found.reasons == {"cmmd": "defined for CLIP features; the extractor of samples is inception"}
    assert found.titles == (str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))
    with pytest.warns(UserWarning, match="different extractors, 'inception' and 'dino'") as warned:
        found = fidfast.report(tmp_path / "a.npz", tmp_path / "c.npz")
    assert [warning.filename for warning in warned] == [__file__]
    assert found.label == "Fréchet distance"
    assert "\nKID " not in found.table()
    one, two = (
        fidfast.GaussianStats(np.zeros(2), np.eye(2), num_samples=50, extractor=name) for name in ("inception", "dino")
    )
    with pytest.warns(UserWarning, match="different extractors") as warned:
        fidfast.report(one, two)
    assert [warning.filename for warning in warned] == [__file__]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names": ["a"]}, ValueError, "samples has 220 rows, but there are 1 names"),
        ({"images": np.zeros((3, 8, 8, 3), np.uint8)}, ValueError, "samples has 220 rows, but there are 3 images"),
        ({"images": [np.zeros((8, 8, 3))] * 220}, TypeError, "images must be .* got shape .8, 8, 3. and dtype float64"),
        ({"most_harmful": -1}, ValueError, "most_harmful must be at least 0, got -1"),
        ({"precision": "half"}, ValueError, "precision"),
    ],
)
def test_invalid_options(sides, options, error, message):
    with pytest.raises(error, match=message):
        fidfast.report(*sides, **options)


def test_invalid_samples(sides):
    with pytest.raises(ValueError, match="samples has dim 6, but reference has dim 5"):
        fidfast.report(sides[0], normal(50, 5))
    with pytest.raises(ValueError, match="samples: features hold NaN"):
        fidfast.report(np.full((5, 6), np.nan), sides[1])
    with pytest.raises(ValueError, match="images need the features of samples, but samples holds none"):
        fidfast.report(stats_of(sides[0]), sides[1], images=[])


# Output -------------------------------------------------------------------------------------------------------------


def test_the_table(sides, found):
    lines = found.table().splitlines()
    width = max(len(row.name) for row in found.rows())
    names = [line[:width].rstrip() for line in lines if line[:width].strip()]
    assert names[:2] == ["samples", "reference"]
    assert names[2:4] == ["Fréchet distance, unbiased", "  as reported by other tools"]
    assert names[-1] == "most harmful"
    firsts = [line for line in lines if line[:width].strip()]
    starts = {line.index(row.value, width) for line, row in zip(firsts, found.rows(), strict=False) if row.value}
    assert len(starts) == 1  # the values are aligned
    assert f"{found.estimate.unbiased:.2f} ± {found.estimate.stderr:.2f}" in firsts[2].replace("0 ±", " ±")
    assert f"{found.estimate.value:.6g}" in firsts[3]
    assert "220 × 6" in firsts[0]
    for share in (*found.precision_recall, *found.density_coverage):
        assert f"{share:.4f}" in found.table()


def test_the_dictionary_holds_every_number(sides, found):
    numbers = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert numbers["value"] == found.estimate.value
    assert numbers["interval_95"] == list(found.estimate.interval())
    assert numbers["num_samples"] == [220, 150]
    assert numbers["kid"] == found.kid.to_dict()
    assert numbers["precision"] == found.precision_recall.precision
    assert numbers["coverage"] == found.density_coverage.coverage
    assert numbers["trimmed"] == found.trimmed.to_dict()
    assert numbers["extrapolation"]["distances"] == found.extrapolation.distances.tolist()
    worst = found.most_harmful[0]
    nearest = worst.nearest.to_dict()
    expected = {"row": worst.row, "name": worst.name, "influence": worst.influence, "nearest": nearest}
    assert numbers["most_harmful"][0] == expected
    fewer = json.loads(json.dumps(fidfast.report(*map(stats_of, sides)).to_dict(), allow_nan=False))
    assert set(fewer) == set(numbers)
    assert [key for key in numbers if fewer[key] is None and numbers[key] is not None] == [
        "stderr", "bias", "degrees_of_freedom", "caution", "unbiased", "extrapolation", "trimmed", "most_harmful",
        "kid", "precision", "recall", "density", "coverage",
    ]  # fmt: skip
