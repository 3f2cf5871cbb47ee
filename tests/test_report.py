"""A report holds the numbers of the functions behind it, says why one is missing, and its page needs nothing else."""

import base64
import io
import json
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from photographs import crops, write
from PIL import Image

import fidfast
from fidfast import cli


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.pictures, self.texts, self.sources = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.sources += [known[key] for key in ("src", "href") if key in known]
        if tag == "img":
            kind, data = known["src"].split(",")
            assert kind == "data:image/png;base64"
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
                assert image.format == "PNG"
                self.pictures.append((known["alt"], np.asarray(image.convert("RGB"))))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def sides(rng):
    return rng.standard_normal((120, 6)) + 0.5, rng.standard_normal((150, 6))


def test_the_numbers_are_those_of_the_functions(sides):
    features, reference = sides
    found = fidfast.report(features, reference)
    assert found.estimate == fidfast.estimate(features, reference)
    influence = fidfast.influence(features, reference)
    worst = np.argsort(-influence)[:12]
    assert [sample.row for sample in found.most_harmful] == worst.tolist()
    # The same sums, but for the reference's share of the core's work: rounding.
    np.testing.assert_allclose([s.influence for s in found.most_harmful], influence[worst], rtol=1e-8)
    assert found.trimmed.num_samples == 1
    assert found.trimmed.value == pytest.approx(fidfast.fid(np.delete(features, worst[0], 0), reference), rel=1e-10)
    assert found.kid == fidfast.kid(features, reference)
    assert found.precision_recall == fidfast.precision_recall(reference, features)
    assert found.density_coverage == fidfast.density_coverage(reference, features)
    assert found.growth.value == fidfast.fid_infinity(features, reference, num_points=10).value
    assert found.mean_term == pytest.approx(np.sum((features.mean(0) - reference.mean(0)) ** 2))
    np.testing.assert_allclose(found.spectra[0], np.linalg.eigvalsh(np.cov(features.T))[::-1], rtol=1e-10)
    assert list(found.reasons) == ["cmmd"]
    table = found.table()
    assert f"{found.estimate.value:.6g}" in table
    assert f"{found.precision_recall.recall:.4f}" in table


def test_cmmd_is_for_unit_rows(sides):
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    assert fidfast.report(*unit).cmmd == fidfast.cmmd(*unit)


def test_what_is_missing_says_why(sides):
    features, reference = sides
    stats = fidfast.GaussianStats(reference.mean(0), np.cov(reference.T))
    found = fidfast.report(features[:5], stats)
    assert found.reasons["estimate"] == "features has 5 samples, and 4 directions that vary need 9"
    assert found.reasons["kid"] == "reference is given by statistics"
    assert (
        fidfast.report(features[:3], stats).reasons["growth"].endswith("3 samples, and growing parts need at least 4")
    )
    found = fidfast.report(stats, reference)
    assert found.most_harmful is None
    assert found.reasons["most_harmful"] == "features are statistics alone, without rows to leave out"
    both = fidfast.report(stats, stats)
    assert both.estimate.value < 1e-12
    for text in (both.table(), "".join(Page(both.html()).texts)):
        assert "both sides are statistics alone" in text
    assert json.loads(json.dumps(both.to_dict(), allow_nan=False))["precision"] is None
    few = fidfast.report(features[:3], reference)
    assert few.reasons["precision_recall"] == "k = 3 needs more samples than that, and features has 3"
    assert few.density_coverage == fidfast.density_coverage(reference, features[:3])
    assert "left out as asked" in fidfast.report(features, reference, all_pairs=False).reasons["kid"]


def test_the_page(sides, rng):
    features, reference = sides
    images = rng.integers(0, 256, (120, 8, 10, 3), np.uint8)
    names = [f'<script>{i}</script>"&\n' for i in range(120)]
    found = fidfast.report(features, reference, names=names, images=images, titles=("<a>", "b"), most_harmful=4)
    text = found.html()
    assert "<script" not in text
    page = Page(text)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.pictures) == 3 + 4
    for (alt, picture), sample in zip(page.pictures[3:], found.most_harmful, strict=True):
        assert alt == sample.name == f'<script>{sample.row}</script>"&\\n'
        np.testing.assert_array_equal(picture, images[sample.row])
    for _, plot in page.pictures[:3]:
        assert plot.shape[1] == 896
        assert len(np.unique(plot)) > 50  # lines and letters


def test_without_matplotlib_the_page_says_so(sides, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(UserWarning, match="the report has no plots: plots need matplotlib: pip install matplotlib"):
        page = Page(fidfast.report(*sides).html())
    assert page.pictures == []
    assert any("pip install matplotlib" in text for text in page.texts)


def test_features_that_do_not_vary():
    found = fidfast.report(np.ones((8, 2)), np.ones((9, 2)))
    assert found.ranks == (0, 0)
    assert found.dead_units == (2, 2)
    assert found.estimate.value == 0
    Page(found.html())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"names": ["a"]}, "features have 120 rows, but there are 1 names"),
        ({"images": [np.zeros((4, 4, 3), np.uint8)]}, "features have 120 rows, but there are 1 images"),
        ({"images": [np.zeros((4, 4))] * 120}, r"images must be .* got shape \(4, 4\) and dtype float64"),
        ({"most_harmful": -1}, "most_harmful must be at least 0, got -1"),
    ],
)
def test_errors(sides, options, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        fidfast.report(*sides, **options)


def test_the_command_on_files(sides, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", sides[0])
    np.save("b.npy", sides[1])
    assert cli.main(["report", "a.npy", "b.npy", "--html", "page.html"]) == 0
    found = fidfast.report("a.npy", "b.npy")
    assert capsys.readouterr().out == f"{found.table()}\npage: page.html\n"
    assert len(Page((tmp_path / "page.html").read_text(encoding="utf-8")).pictures) == 3
    assert cli.main(["report", "a.npy", "b.npy", "--json", "--no-pairs"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["value"] == found.estimate.value
    assert known["files"] == known["titles"] == ["a.npy", "b.npy"]
    assert known["kid"] is None
    assert "kid" in known["reasons"]
    for options, sentence in (
        (("--html", "gone/page.html"), "no such folder to write to: gone"),
        (("--like", "stylegan3"), "it does not go with --like"),
    ):
        assert cli.main(["report", "a.npy", "b.npy", *options]) == 1
        assert sentence in capsys.readouterr().err


def test_the_command_on_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        write(tmp_path / name, crops(seed, [(20, 20)] * 12))
    (tmp_path / "a" / "0003.png").write_bytes(b"no image")
    (tmp_path / "tiny.py").write_text("def make():\n    return lambda images: images.mean(dim=(2, 3))\n")
    command = ["report", "a", "b", "--extractor", "tiny:make", "--device", "cpu", "--skip-broken", "--html", "p.html"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "extractor tiny:make" in out
    assert "a: 1 broken images left out" in out
    pictures = Page((tmp_path / "p.html").read_text(encoding="utf-8")).pictures[3:]
    assert sorted(name for name, _ in pictures) == [f"{i:04}.png" for i in range(12) if i != 3]
    for name, picture in pictures:  # behind each row its own image, though one was left out
        np.testing.assert_array_equal(picture, np.asarray(Image.open(tmp_path / "a" / name)))
