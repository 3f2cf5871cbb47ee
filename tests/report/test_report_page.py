"""The HTML page of a report is complete, self-contained, and escapes names."""

import base64
import io
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import fidfast

VOID = {"br", "img", "meta"}


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    return rng.standard_normal((220, 6)) + 0.4, rng.standard_normal((150, 6))


class Page(HTMLParser):
    """Parses a page into tags, text and decoded images; checks that elements nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        assert "href" not in values
        assert not any(name.startswith("on") for name in values)
        if tag == "img":
            self.images.append((values["alt"], *self.decoded(values["src"])))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)

    @staticmethod
    def decoded(uri):
        kind, data = re.fullmatch(r"data:(image/[a-z+]+);base64,(\S+)", uri).groups()
        return kind, base64.b64decode(data, validate=True)


def test_the_page_holds_table_and_plots_and_no_links(sides):
    found = fidfast.report(*sides)
    text = found.html()
    page = Page(text)
    assert page.tags.count("tr") == 1 + len(found.rows())
    content = "".join(page.text)
    for row in found.rows():
        assert row.name.strip() in content
        assert row.value in content
        assert row.note in content
    assert [kind for _, kind, _ in page.images] == ["image/svg+xml"] * 3
    for alt, _, data in page.images:
        assert alt
        root = ET.fromstring(data)  # SVG that fidfast wrote
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 20  # lines, ticks and letters
        assert b"prefers-color-scheme:dark" in data
        assert b"script" not in data
        assert not re.search(rb'(href|src)="(?!#)', data)
    assert "script" not in page.tags
    assert not re.search(r"https?://", text)
    assert text == found.html()  # deterministic


def test_reports_with_missing_metrics_have_a_page(sides):
    few, stats = sides[0][:3], fidfast.GaussianStats(np.zeros(6), np.eye(6))
    for pair in ((few, sides[1]), (stats, sides[1]), (sides[0], stats), (stats, stats), (few, few), (few * 0, few * 0)):
        found = fidfast.report(*pair)
        page = Page(found.html())
        assert len(page.images) == 2 + (found.extrapolation is not None)
        assert found.headline in page.text
        assert all(any(row.note in text for text in page.text) for row in found.rows())


def test_names_are_escaped_and_printable(tmp_path, sides):
    names = ["plain.png"] * 220
    worst = np.argsort(-fidfast.influence(*sides))[:4]
    harmful = ("<script>alert(1)</script>.png", "a&amp;\"b'.png", "two\nlines\x1b[31m.png", "half\udc80.png")
    for row, name in zip(worst, harmful, strict=True):
        names[row] = name
    images = [np.zeros((4, 4, 3), np.uint8)] * 220
    found = fidfast.report(*sides, names=names, images=images, titles=("<b>A</b>", "b\t& c"), all_pairs=False)
    found.write_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in Page(text.replace("<b>+", "").replace("</b><br>", "")).tags  # except for the influences
    shown = [*harmful[:2], "two\\nlines\\x1b[31m.png", "half\\udc80.png"]
    assert [alt for alt, kind, _ in page.images if kind == "image/png"][:4] == shown
    assert set(shown) <= set(page.text)
    assert found.titles == ("<b>A</b>", "b\\t& c")
    assert all(line.isprintable() for line in found.table().split("\n"))


def test_images_are_scaled(sides):
    rng = np.random.default_rng(0)
    images = [np.full((40, 30, 3), row % 256, np.uint8) for row in range(220)]
    worst = np.argsort(-fidfast.influence(*sides))
    images[worst[1]] = rng.integers(0, 256, (600, 400, 3)).astype(np.uint8)
    found = fidfast.report(*sides, images=images, most_harmful=3, all_pairs=False)
    shown = [(kind, Image.open(io.BytesIO(data))) for _, kind, data in Page(found.html()).images[3:]]
    assert [kind for kind, _ in shown] == ["image/png", "image/jpeg", "image/png"]
    assert [image.size for _, image in shown] == [(30, 40), (128, 192), (30, 40)]
    np.testing.assert_array_equal(np.asarray(shown[0][1]), images[worst[0]])


def test_only_images_of_harmful_samples_are_read(tmp_path, sides):
    for row in range(20):
        Image.fromarray(np.full((5, 5, 3), row, np.uint8)).save(tmp_path / f"{row:02}.png")
    worst = np.argsort(-fidfast.influence(sides[0][:20], sides[1]))
    (tmp_path / f"{worst[1]:02}.png").write_bytes(b"broken")
    found = fidfast.report(sides[0][:20], sides[1], images=tmp_path, most_harmful=2)
    assert [sample.name for sample in found.most_harmful] == [f"{row:02}.png" for row in worst[:2]]
    assert found.most_harmful[0].image[0, 0, 0] == worst[0]
    assert found.most_harmful[1].image is None


def test_missing_matplotlib_or_pillow_is_a_warning(monkeypatch, sides):
    found = fidfast.report(*sides, images=[np.zeros((4, 4, 3), np.uint8)] * 220, most_harmful=1, all_pairs=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.warns(UserWarning, match="pip install") as warned:
        page = Page(found.html())
    assert {warning.filename for warning in warned} == {__file__}
    assert page.images == []
    assert any("plots need matplotlib: pip install matplotlib" in text for text in page.text)
    assert [str(warning.message).split(":")[0] for warning in warned] == [
        "the report has no plots", "the report has no images",
    ]  # fmt: skip
    assert found.table()


def test_notebooks_show_the_table(sides):
    found = fidfast.report(*sides, titles=("<b>A</b>", "B"), all_pairs=False)
    page = Page(found._repr_html_())
    assert "b" not in page.tags
    assert f"{found.headline}: <b>A</b> against B" in page.text
    for row in found.rows():
        assert row.note in page.text
