"""The report: its numbers are those of the functions it asks, and what it cannot tell it says."""

import json
import re

import numpy as np
import pytest

import fidfast
from fidfast._report.build import GROWTH_POINTS


def samples(n, dim=6, shift=0.0, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)) + shift


@pytest.fixture(scope="module")
def sides():
    return samples(220, shift=0.4), samples(150, seed=1)


@pytest.fixture(scope="module")
def found(sides):
    return fidfast.report(*sides)


# Numbers ------------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_functions(sides, found):
    features, reference = sides
    assert found.estimate == fidfast.estimate(features, reference)
    assert found.kid == fidfast.kid(features, reference)
    assert found.precision_recall == fidfast.precision_recall(reference, features)
    assert found.density_coverage == fidfast.density_coverage(reference, features)
    stats = fidfast.Moments(6)
    stats.update(reference)
    grown = fidfast.fid_infinity(features, stats.stats(), num_points=GROWTH_POINTS)
    np.testing.assert_array_equal(found.growth.distances, grown.distances)
    assert found.growth.value == grown.value
    assert found.mean_term == pytest.approx(np.sum((features.mean(0) - reference.mean(0)) ** 2))
    for spectrum, side in zip(found.spectra, sides, strict=True):
        np.testing.assert_allclose(spectrum, np.linalg.eigvalsh(np.cov(side.T))[::-1], rtol=1e-12)


def test_the_most_harmful_are_those_of_the_largest_influence(sides, found):
    influence = fidfast.influence(*sides)
    worst = np.argsort(-influence)
    assert [sample.row for sample in found.most_harmful] == worst[:12].tolist()
    # The same sums, once with the reference as known: rounding.
    np.testing.assert_allclose([sample.influence for sample in found.most_harmful], influence[worst[:12]], rtol=1e-8)
    assert found.most_harmful[0].name == f"row {worst[0]}"
    assert found.trimmed.num_samples == 2  # 1 % of 220
    left = np.delete(sides[0], worst[:2], axis=0)
    assert found.trimmed.value == pytest.approx(fidfast.fid(left, sides[1]), rel=1e-9)
    assert len(fidfast.report(*sides, most_harmful=3, all_pairs=False).most_harmful) == 3
    assert fidfast.report(*sides, most_harmful=0, all_pairs=False).most_harmful == ()


def test_more_rows_than_are_read_at_a_time(monkeypatch, sides, found):
    monkeypatch.setattr("fidfast._files.formats.ROWS_AT_A_TIME", 50)
    again = fidfast.report(*sides)
    assert again.trimmed.value == pytest.approx(found.trimmed.value, rel=1e-12)
    assert [sample.row for sample in again.most_harmful] == [sample.row for sample in found.most_harmful]


def test_dead_units_and_rank():
    features = samples(50, 5)
    features[:, 1] = 3.0
    features[:, 4] = features[:, 0] - features[:, 2]
    found = fidfast.report(features, samples(4, 5, seed=1))
    assert found.dead_units == (1, 0)
    assert found.ranks == (3, 3)  # a unit dead and one that others make; 4 samples about their mean
    assert "rank 3, 1 dead unit\n" in found.table() + "\n"


def test_cmmd_of_unit_rows_alone(sides):
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    found = fidfast.report(*unit)
    assert found.cmmd == fidfast.cmmd(*unit)
    assert "cmmd" not in found.reasons
    assert fidfast.report(*(side.astype(np.float16) for side in unit)).cmmd is not None
    assert fidfast.report(unit[0], sides[1]).reasons["cmmd"] == (
        "it is defined for rows of unit norm, as CLIP's are; those of reference are not"
    )


def test_tensors(sides, found):
    torch = pytest.importorskip("torch")
    again = fidfast.report(*map(torch.from_numpy, sides))
    assert again.to_dict() == found.to_dict()


# What cannot be told ------------------------------------------------------------------------------------------------


def stats_of(rows):
    moments = fidfast.Moments(rows.shape[1])
    moments.update(rows)
    return moments.stats()


def test_statistics_on_the_side_of_the_features(sides):
    found = fidfast.report(stats_of(sides[0]), sides[1])
    assert found.estimate.note is None  # the reference's sample has an error
    assert found.reasons == {
        "most_harmful": "features are statistics alone, without rows to leave out",
        "growth": "features are statistics alone, which have no parts",
        **dict.fromkeys(("kid", "cmmd", "precision_recall", "density_coverage"), "features is given by statistics"),
    }
    assert (found.most_harmful, found.trimmed, found.growth, found.kid, found.cmmd) == (None,) * 5
    assert (found.precision_recall, found.density_coverage) == (None, None)


def test_statistics_on_the_side_of_the_reference(sides, found):
    again = fidfast.report(sides[0], stats_of(sides[1]))
    pairs = ("kid", "cmmd", "precision_recall", "density_coverage")
    assert again.reasons == dict.fromkeys(pairs, "reference is given by statistics")
    assert again.trimmed == found.trimmed
    assert again.estimate.value == found.estimate.value
    assert again.estimate.stderr < found.estimate.stderr


def test_statistics_on_both_sides(sides):
    found = fidfast.report(*map(stats_of, sides))
    assert found.reasons["estimate"] == "both sides are statistics alone, which do not tell how their samples scatter"
    assert found.reasons["kid"] == "features and reference are given by statistics"
    assert found.estimate.value == fidfast.fid(*sides)
    assert found.headline == f"Fréchet distance {found.estimate.value:.6g}"
    assert found.num_samples == (220, 150)


def test_moments_in_blocks_have_an_error_bar_and_no_rows(sides):
    moments = fidfast.Moments(6, blocks=20)
    moments.update(sides[0])
    found = fidfast.report(moments, stats_of(sides[1]))
    assert found.estimate.stderr > 0
    assert set(found.reasons) == {"most_harmful", "growth", "kid", "cmmd", "precision_recall", "density_coverage"}


@pytest.mark.parametrize(
    ("n", "m", "reasons"),
    [
        (
            2,
            40,
            {
                "estimate": "features has 2 samples, and leaving one out needs at least 3",
                "most_harmful": "features has 2 samples, and leaving one out needs at least 3",
                "growth": "features has 2 samples, and growing parts need at least 4",
                "precision_recall": "k = 3 needs more samples than that, and features has 2",
            },
        ),
        (
            40,
            4,
            {
                "estimate": "reference has 4 samples, and 3 directions that vary need 7",
                "density_coverage": "k = 5 needs more samples than that, and reference has 4",
            },
        ),
        (
            40,
            2,
            {
                "estimate": "reference has 2 samples, and leaving one out needs at least 3",
                "most_harmful": "reference has 2 samples, and leaving one out needs at least 3",
                "precision_recall": "k = 3 needs more samples than that, and reference has 2",
                "density_coverage": "k = 5 needs more samples than that, and reference has 2",
            },
        ),
        (4, 40, {"estimate": "features has 4 samples, and 3 directions that vary need 7"}),
    ],
)
def test_too_few_samples(n, m, reasons):
    features, reference = samples(n), samples(m, seed=1)
    found = fidfast.report(features, reference)
    assert found.reasons == reasons | {
        "cmmd": "it is defined for rows of unit norm, as CLIP's are; those of features are not"
    }
    if found.precision_recall is not None:
        assert found.precision_recall == fidfast.precision_recall(reference, features)
    if found.density_coverage is not None:
        assert found.density_coverage == fidfast.density_coverage(reference, features)
    assert found.estimate.value == fidfast.fid(features, reference)
    for reason in reasons.values():
        assert reason in found.table()


def test_pairs_are_left_out_as_asked(sides):
    found = fidfast.report(*sides, all_pairs=False)
    why = "left out as asked: it takes all pairs of samples"
    assert found.reasons == dict.fromkeys(("kid", "cmmd", "precision_recall", "density_coverage"), why)


def test_extractors_name_the_numbers(tmp_path, sides):
    for name, extractor in (("a", "inception"), ("b", "inception"), ("c", "dino")):
        np.savez(tmp_path / f"{name}.npz", features=sides[name != "a"], extractor=extractor)
    found = fidfast.report(tmp_path / "a.npz", tmp_path / "b.npz")
    assert found.label == "FID"
    assert found.headline.startswith("FID ")
    assert "\nKID " in found.table()
    assert found.reasons == {"cmmd": "it is defined for CLIP's features; features: inception"}
    assert found.titles == (str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))
    with pytest.warns(UserWarning, match="different extractors, 'inception' and 'dino'") as warned:
        found = fidfast.report(tmp_path / "a.npz", tmp_path / "c.npz")
    assert [warning.filename for warning in warned] == [__file__]
    assert found.label == "Fréchet distance"
    assert "\nKID " not in found.table()
    one, two = (fidfast.GaussianStats(np.zeros(2), np.eye(2), 50, name) for name in ("inception", "dino"))
    with pytest.warns(UserWarning, match="different extractors") as warned:
        fidfast.report(one, two)
    assert [warning.filename for warning in warned] == [__file__]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names": ["a"]}, ValueError, "features have 220 rows, but there are 1 names"),
        ({"images": np.zeros((3, 8, 8, 3), np.uint8)}, ValueError, "features have 220 rows, but there are 3 images"),
        ({"images": [np.zeros((8, 8, 3))] * 220}, TypeError, "images must be .* got shape .8, 8, 3. and dtype float64"),
        ({"most_harmful": -1}, ValueError, "most_harmful must be at least 0, got -1"),
        ({"precision": "half"}, ValueError, "precision"),
    ],
)
def test_what_is_not_usable(sides, options, error, message):
    with pytest.raises(error, match=message):
        fidfast.report(*sides, **options)


def test_sides_that_do_not_fit(sides):
    with pytest.raises(ValueError, match="features has dim 6, but reference has dim 5"):
        fidfast.report(sides[0], samples(50, 5))
    with pytest.raises(ValueError, match="features: features hold NaN"):
        fidfast.report(np.full((5, 6), np.nan), sides[1])
    with pytest.raises(ValueError, match="images are those of rows, and features are statistics alone"):
        fidfast.report(stats_of(sides[0]), sides[1], images=[])


# Showing ------------------------------------------------------------------------------------------------------------


def test_the_table(sides, found):
    lines = found.table().splitlines()
    names = [re.split(r"  +", line.strip())[0] for line in lines]
    assert names[:2] == ["features", "reference"]
    assert names[2:4] == ["Fréchet distance, unbiased", "Fréchet distance, as other tools have it"]
    assert names[-5] == "most harmful"
    starts = {line.index(row.value or "–", len(row.name)) for line, row in zip(lines, found.rows(), strict=False)}
    assert len(starts) == 1  # a column
    assert f"{found.estimate.unbiased:.2f} ± {found.estimate.stderr:.2f}" in lines[2].replace("0 ±", " ±")
    assert f"{found.estimate.value:.6g}" in lines[3]
    assert "220 × 6" in lines[0]
    for share in (*found.precision_recall, *found.density_coverage):
        assert f"{share:.4f}" in found.table()


def test_json_holds_every_number(sides, found):
    known = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert known["value"] == found.estimate.value
    assert known["interval_95"] == list(found.estimate.interval())
    assert known["num_samples"] == [220, 150]
    assert known["kid"] == {"value": found.kid.value, "stderr": found.kid.stderr}
    assert known["precision"] == found.precision_recall.precision
    assert known["coverage"] == found.density_coverage.coverage
    assert known["trimmed"] == found.trimmed._asdict()
    assert known["growth"]["distances"] == found.growth.distances.tolist()
    assert known["most_harmful"][0] == {"row": found.most_harmful[0].row, "name": found.most_harmful[0].name,
                                        "influence": found.most_harmful[0].influence}  # fmt: skip
    less = json.loads(json.dumps(fidfast.report(*map(stats_of, sides)).to_dict(), allow_nan=False))
    assert set(less) == set(known)
    assert [key for key in known if less[key] is None and known[key] is not None] == [
        "stderr", "bias", "degrees_of_freedom", "caution", "unbiased", "growth", "trimmed", "most_harmful", "kid",
        "precision", "recall", "density", "coverage",
    ]  # fmt: skip
