"""A report is easy to read: width of the table, header and captions of the page, groups of samples, progress."""

import re
import sys

import numpy as np
import pytest

import fidfast
from fidfast._report.plots import plots

DIM = 12


def normal(n, seed=0, shift=0.0, dim=DIM):
    return np.random.default_rng(seed).standard_normal((n, dim)) + shift


def words(text):
    return " ".join(text.split())


def stats_of(rows):
    return fidfast.Moments.from_features(rows).stats()


def blocks_of(rows):
    moments = fidfast.Moments(DIM, blocks=20)
    moments.update(rows)
    return moments


PAIRS = {
    "features": (normal(220, shift=0.4), normal(150, 1)),
    "statistics": (stats_of(normal(220)), stats_of(normal(150, 1))),
    "blocks": (blocks_of(normal(220)), stats_of(normal(150, 1))),
    "few samples": (normal(5), normal(150, 1)),
    "shared rows": (normal(220), normal(100)),
    "large numbers": (1e9 * normal(220), 1e9 * normal(150, 1)),
    "constants": (np.ones((220, DIM)), np.ones((150, DIM))),
}
LONG = "/data/" + "a-long-name-without-blanks/" * 6 + "samples.npz"


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr("fidfast._report.plots._svg", lambda draw: "<svg/>")


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


# The table -----------------------------------------------------------------------------------------------------------


def test_the_table_fits_80_columns(pair):
    found = fidfast.report(*pair, titles=(LONG, "b"))
    lines = found.table().splitlines()
    assert max(map(len, lines)) <= 80
    # Nothing is cut: all texts are there, apart from line breaks and alignment.
    text = re.sub(r"\s", "", found.table())
    for row in found.rows():
        assert re.sub(r"\s", "", row.note) in text
    assert [line for line in lines if line.rstrip() != line] == []


def test_metrics_that_are_missing_for_one_reason_share_a_row():
    found = fidfast.report(*PAIRS["features"], all_pairs=False)
    missing = [row for row in found.rows() if row.name == "not computed"]
    assert [row.note for row in missing] == [
        "kernel distance (KID formula), CMMD, precision, recall, density, coverage: skipped (all_pairs=False)"
    ]
    found = fidfast.report(*PAIRS["statistics"])
    missing = [row for row in found.rows() if row.name == "not computed"]
    assert [row.note.count("the (n, dim) features themselves") for row in missing] == [1]


# Groups of samples, and their neighbours ---------------------------------------------------------------------------


def with_copies(count, noise):
    """Samples of which the first, which is the worst, is there `count` times."""
    rows = normal(300, shift=0.1)
    rows[0] = 9.0
    rows[1:count] = rows[0] + noise * normal(count - 1, 7)
    return rows


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_samples_that_are_almost_equal_are_listed_once(noise):
    rows, reference = with_copies(7, noise), normal(150, 1)
    found = fidfast.report(rows, reference, most_harmful=5, all_pairs=False)
    influence = fidfast.influence(rows, reference)
    first, *others = found.most_harmful
    assert sorted([first.row, *first.alike]) == list(range(7))
    assert all(sample.row > 6 for sample in others)
    assert len(found.most_harmful) == 5
    # The same sums with and without the reference's replicates: equal up to rounding.
    assert first.influence + first.influence_alike == pytest.approx(influence[:7].sum(), rel=1e-8)
    assert first.to_dict()["alike"] == list(first.alike)
    assert "and 6 almost equal, together " in words(found.table())
    assert "and 6 almost equal, together " in found.html()


@pytest.mark.parametrize("dim", [1, 3, 12])
def test_independent_samples_are_not_grouped(dim):
    """At most 1 in 10,000 pairs is that close; the worst are apart from each other."""
    found = fidfast.report(normal(200, dim=dim), normal(150, 1, dim=dim), all_pairs=False)
    assert all(sample.alike == () for sample in found.most_harmful)


def test_the_nearest_row_of_the_reference(monkeypatch):
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 64)
    rows, reference = PAIRS["features"]
    names = [f"{row}.png" for row in range(len(reference))]
    for sample in fidfast.report(rows, reference, reference_names=names, all_pairs=False).most_harmful:
        distances = np.linalg.norm(reference - rows[sample.row], axis=1)
        assert sample.nearest.row == distances.argmin()
        assert sample.nearest.name == f"{distances.argmin()}.png"
        assert sample.nearest.distance == pytest.approx(distances.min())
    assert all(sample.nearest is None for sample in fidfast.report(rows, stats_of(reference)).most_harmful)


def test_the_page_shows_the_nearest_image_beside_each_sample():
    rows, reference = PAIRS["features"]
    images = [np.full((4, 4, 3), row, np.uint8) for row in range(len(rows))]
    others = [np.full((5, 5, 3), row, np.uint8) for row in range(len(reference))]
    found = fidfast.report(rows, reference, images=images, reference_images=others, most_harmful=3, all_pairs=False)
    for sample in found.most_harmful:
        assert sample.image[0, 0, 0] == sample.row
        assert sample.nearest.image[0, 0, 0] == sample.nearest.row
    page = found.html()
    pairs = re.findall(r'<div class="pair">(.*?)</div>', page)
    assert [pair.count("data:image/png") for pair in pairs] == [2, 2, 2]
    assert "nearest one of the reference" in page
    with pytest.raises(ValueError, match="reference has 150 rows, but there are 2 reference_images"):
        fidfast.report(rows, reference, reference_images=others[:2])


# Header, warnings and captions ---------------------------------------------------------------------------------------


def test_the_header_says_what_was_compared_when_and_how():
    found = fidfast.report(*PAIRS["features"], titles=("<a>", "b"), command="fidfast report '<a>' b", all_pairs=False)
    header = re.search(r"<header>.*</header>", found.html(), re.DOTALL)[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found.created)
    for text in (found.headline, "&lt;a&gt;", "<dd>b</dd>", found.created, "fidfast report", fidfast.__version__):
        assert text in header
    assert "<dt>command</dt>" not in fidfast.report(*PAIRS["features"], all_pairs=False).html()


def test_a_warning_for_few_samples_and_for_shared_rows(pair):
    found = fidfast.report(*pair, all_pairs=False)
    shown = re.findall(r'<p class="warning">(.*?)</p>', found.html())
    assert shown == found.warnings()
    few = any("5 samples in dim 12 are too few" in text for text in shown)
    shared = any("100 of the 220 rows of samples are also in reference" in text for text in shown)
    assert few == (pair is PAIRS["few samples"])
    assert shared == (pair is PAIRS["shared rows"])


def test_enough_samples_need_no_warning():
    assert fidfast.report(normal(600), normal(600, 1), all_pairs=False).warnings() == []


def test_captions_describe_what_is_drawn(pair):
    found = fidfast.report(*pair, all_pairs=False)
    captions = [plot.caption for plot in plots(found)]
    with_bar = found.estimate.note is None
    assert ("standard error" in captions[0]) == ("95 %" in captions[0]) == with_bar
    if found.extrapolation is not None:
        assert ("unbiased" in captions[1]) == with_bar
    assert ("no curve" in captions[-1]) == (min(found.ranks) == 0)
    assert ("the curve ends early" in captions[-1]) == (found.num_samples[0] == 5)


# Progress ------------------------------------------------------------------------------------------------------------


def test_progress_names_each_phase(monkeypatch, capsys):
    fidfast.report(*PAIRS["features"], progress=True)
    assert capsys.readouterr().err == ""  # a log gets lines only now and then
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fidfast.report(*PAIRS["features"], progress=True)
    shown = capsys.readouterr().err
    for phase in ("error bar", "extrapolation", "kernel", "precision", "spectra", "most harmful"):
        assert phase in shown
    assert "7/7" in shown
    fidfast.report(*PAIRS["features"])
    assert capsys.readouterr().err == ""
