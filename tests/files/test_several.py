"""Statistics of several extractors in one file."""

from dataclasses import replace

import numpy as np
import pytest

import fidfast
from fidfast import GaussianStats
from fidfast._files import Stats, catalog_of, read, write_several_stats
from fidfast._inputs import open_input
from fidfast._stats import record_of_stats

#: Extractor of each part, as it is stored, by the name of the part.
EXTRACTORS = {
    "inception": "inception-2015-12-05/tf1-bilinear-299",
    "inception-spatial": "inception-spatial/tf1-bilinear-299",
    "dinov2-vitl14": "dinov2-vitl14",
    "package.module:factory": None,
}


@pytest.fixture
def parts(rng):
    """Statistics of 40 rows each, of different dims; the number of samples of one is not stored."""
    found = {}
    for dim, (name, extractor) in enumerate(EXTRACTORS.items(), 3):
        rows = rng.standard_normal((40, dim))
        num_samples = None if name == "dinov2-vitl14" else 40
        sigma = np.cov(rows, rowvar=False)
        found[name] = Stats(rows.mean(axis=0), sigma, num_samples, extractor, 1, product_errors=np.full(dim, 1e-9))
    return found


@pytest.fixture
def path(tmp_path, parts):
    write_several_stats(tmp_path / "all.npz", parts)
    return tmp_path / "all.npz"


def test_each_part_is_read_as_it_was_written(path, parts):
    for name, part in parts.items():
        for found in (read(path, key=name), read(path, extractor=name)):
            assert (found.num_samples, found.ddof) == (part.num_samples, 1)
            assert found.extractor == (part.extractor or name)
            for array in ("mu", "sigma", "product_errors"):
                np.testing.assert_array_equal(getattr(found, array), getattr(part, array))
        assert GaussianStats.load(path, key=name).dim == len(part.mu)


def test_the_first_is_the_default_of_this_and_of_other_tools(path, parts):
    first = parts["inception"]
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["mu"], first.mu)
        np.testing.assert_array_equal(archive["sigma"], first.sigma)
    assert record_of_stats(GaussianStats.load(path)).extractor == first.extractor
    others = "'inception-spatial', 'dinov2-vitl14' and 'package.module:factory'"
    assert read(path).note == f"statistics 'mu,sigma' (the file also holds {others})"
    assert fidfast.file_info(path).keys == ("mu,sigma", *list(EXTRACTORS)[1:])


@pytest.mark.parametrize(
    ("asked", "dim"),
    [
        ("inception-2015-12-05", 3),
        ("inception-2015-12-05/pil-bicubic-299", 3),
        ("inception-spatial/bfloat16", 4),
        ("inception-weights-01234567/tf1-bilinear-299", 3),
        ("inception-spatial-weights-01234567/tf1-bilinear-299", 4),
        ("dinov2", 5),
        ("timm:vit_large_patch14_dinov2-vitl14", 5),
        ("package.module:factory/half", 6),
    ],
)
def test_names_with_and_without_details_choose_the_extractor(path, asked, dim):
    assert open_input(path, "a", extractor=asked).dim == dim


def test_a_name_that_begins_as_another_one(tmp_path, parts):
    names = ["clip-vit-l14", "clip-vit-l14-336", "clip-vit-l14-fdr"]
    record = parts["inception"]
    stored = {
        name: replace(record, mu=record.mu + i, extractor=f"{name}-weights-{i:08x}/pil-224")
        for i, name in enumerate(names)
    }
    for order in (names, names[::-1]):
        write_several_stats(tmp_path / "all.npz", {name: stored[name] for name in order})
        for name in names:
            for options in ({"key": name}, {"extractor": name}, {"extractor": f"{name}-weights-0000000f"}):
                assert read(tmp_path / "all.npz", **options).extractor == stored[name].extractor


@pytest.mark.parametrize("asked", ["clip", "inception-logits", "dinov2-vitb14", "dino", "inceptionv4", "factory"])
def test_the_statistics_of_another_extractor_are_not_taken(path, asked):
    with pytest.raises(ValueError, match=rf"all\.npz holds statistics 'mu,sigma' of inception-2015.* is {asked}"):
        read(path, extractor=asked)
    with pytest.raises(ValueError, match=rf"all\.npz has no '{asked}'; its keys are 'mu' "):
        read(path, key=asked)


def test_the_first_alone_is_the_file_of_one_extractor(tmp_path, parts):
    write_several_stats(tmp_path / "one.npz", {"inception": parts["inception"]})
    assert read(tmp_path / "one.npz").note is None
    stats = GaussianStats.load(tmp_path / "one.npz")
    stats.save(tmp_path / "saved.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "saved.npz").read_bytes()


@pytest.mark.parametrize("name", ["", "mu", "/x", "x/"])
def test_names_that_cannot_be_those_of_extractors(tmp_path, parts, name):
    (tmp_path / "x.npz").write_bytes(b"old")
    with pytest.raises(ValueError, match="cannot be the name of an extractor"):
        write_several_stats(tmp_path / "x.npz", {"inception": parts["inception"], name: parts["inception"]})
    with pytest.raises(ValueError, match="at least one extractor"):
        write_several_stats(tmp_path / "x.npz", {})
    assert (tmp_path / "x.npz").read_bytes() == b"old"


def test_slashes_of_entries(tmp_path, parts):
    """Keys are the names in the file, also where one is the part of another."""
    pair = {"mu": parts["inception"].mu, "sigma": parts["inception"].sigma}
    entries = {"a": np.zeros(3), "a/b": np.ones(2), "c/d/e": np.ones(1), "/": np.ones(4), "/".join("x" * 999): 1}
    np.savez(tmp_path / "x.npz", **pair, **entries)
    assert list(catalog_of(tmp_path / "x.npz").entries) == [*pair, "a", "a/b", "c/d/e", "/", "/".join("x" * 999)]
    assert GaussianStats.load(tmp_path / "x.npz") == GaussianStats(**pair)
