"""A pass over images for several extractors gives each of them what a pass of its own gives, bit for bit."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import crops, planes, write

import fidfast
import fidfast.torch as ft
from fidfast import InceptionScore, Moments
from fidfast.torch._images import batches, extraction_pass
from fidfast.torch._images.checks import check_images_of_several
from fidfast.torch._images.collection import Need, collect_of_source

IMAGES = [np.asarray(image) for image in crops(3, [(24, 24), (20, 24), (24, 24), (31, 18)] * 8)]


class Extremes(torch.nn.Module):
    """A network with two outputs. They do not depend on the batch, and its calls are counted."""

    def __init__(self):
        super().__init__()
        self.calls, self.limit, self.broken = [], 10**9, None

    def forward(self, images):
        if sum(self.calls) >= self.limit:
            raise KeyboardInterrupt
        self.calls.append(len(images))
        cells = [torch.nn.functional.adaptive_max_pool2d(sign * images.float(), 2).flatten(1) for sign in (1, -1)]
        if self.broken is not None:
            cells[1][(images.float() == self.broken).all(dim=(1, 2, 3))] = torch.nan
        return {"highest": cells[0], "lowest": cells[1]}


class Networks:
    """Extractors of two networks; the first has two outputs, and two input sizes."""

    def __init__(self):
        self.first, self.second = Extremes(), Extremes()
        # A function is not copied, so that its calls can be counted.
        sized = ft.Extractor(self.first.forward, "highest", input_size=(16, 16), output="highest", num_features=12)
        self.extractors = [
            sized,
            replace(sized, name="lowest", output="lowest"),
            replace(sized, name="small", input_size=(8, 9), resize="tf1-bilinear"),
            ft.Extractor(self.second.forward, "unresized", output="lowest", takes_uint8=True),
        ]
        self.extractors = [replace(one, reproducible=True) for one in self.extractors]

    def needs(self):
        highest, lowest, small, unresized = self.extractors
        return [
            Need(highest, moments=True, rows=True),
            Need(lowest, score=InceptionScore(12, splits=3)),
            Need(small, moments=True),
            Need(unresized, moments=True, rows=True, score=InceptionScore(12)),
        ]


def collect(source, needs, **keywords):
    options = ft.ImageOptions(**{"num_workers": 0, "batch_size": 5, **keywords})
    extractors = [need.extractor for need in needs]
    opened, extractors, options = check_images_of_several(source, extractors, options=options)
    needs = [replace(need, extractor=one) for need, one in zip(needs, extractors, strict=True)]
    found, checkpoint = collect_of_source(opened, needs, options)
    if checkpoint is not None:
        checkpoint.remove()
    return found


def assert_equal(found, expected):
    for field in ("skipped", "names", "indices"):
        assert getattr(found, field) == getattr(expected, field), field
    for one, another in zip(found.parts, expected.parts, strict=True):
        assert_equal_parts(one, another)


def assert_equal_parts(one, another):
    assert (one.moments, one.score, one.extractor) == (another.moments, another.score, another.extractor)
    np.testing.assert_array_equal(one.rows, another.rows)


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return write(tmp_path / "images", IMAGES)


# The pass -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_several_extractors_get_what_each_gets_alone(batch_size):
    found = collect(IMAGES, Networks().needs(), batch_size=batch_size)
    for number, need in enumerate(Networks().needs()):
        alone = collect(IMAGES, [need], batch_size=batch_size)
        assert_equal_parts(found.parts[number], alone.parts[0])
    moments = ft.moments_of_images(IMAGES, Networks().extractors[0], batch_size=batch_size).moments
    assert found.parts[0].moments == moments
    features = ft.features_of_images(IMAGES, Networks().extractors[3], batch_size=batch_size)
    np.testing.assert_array_equal(found.parts[3].rows, features.features)
    assert (found.names, found.indices) == (features.names, features.indices)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_rows_are_in_the_order_of_the_images(batch_size):
    """Also for images of several sizes in a batch; the splits of some scores are consecutive images."""
    networks = Networks()
    found = collect(IMAGES, networks.needs(), batch_size=batch_size)
    assert found.indices == list(range(len(IMAGES)))
    rows = torch.cat([networks.extractors[3](planes(image)[None]) for image in IMAGES]).numpy()
    np.testing.assert_array_equal(found.parts[3].rows, rows)


def test_images_are_decoded_and_resized_once_and_networks_run_once(monkeypatch):
    decoded, resized, networks = [], [], Networks()
    pixels, resize = batches.image_pixels, batches.resize
    monkeypatch.setattr(batches, "image_pixels", lambda *given: (decoded.append(1), pixels(*given))[1])
    monkeypatch.setattr(batches, "resize", lambda *given: (resized.append(given[1:]), resize(*given))[1])
    collect(IMAGES, networks.needs(), batch_size=8)
    assert len(decoded) == len(IMAGES) + 1  # the first image is checked before
    sizes = [("pil-bicubic", (16, 16)), ("tf1-bilinear", (8, 9))]
    assert sorted(resized) == sorted(sizes * len(IMAGES))
    assert networks.first.calls == [8, 8] * 4  # two sizes
    assert sorted(networks.second.calls) == [2, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4]


def test_networks_prepared_together_share_their_weights():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    extractor = ft.as_extractor(network, name="x")
    two = [extractor, replace(extractor, name="y", input_size=(9, 9))]
    _, prepared, _ = check_images_of_several(IMAGES, two, options=ft.ImageOptions(dtype="bfloat16", num_workers=0))
    assert prepared[0].model is prepared[1].model
    assert [one.full_name for one in prepared] == ["x/bfloat16", "y/pil-bicubic-9/bfloat16"]


def test_an_image_that_is_broken_for_one_extractor_is_skipped_for_all(folder):
    white = np.full((20, 20, 3), 255, np.uint8)
    for number in (5, 6, 30):
        write(folder / f"{number:04}", [white])  # between the images of this number and the next
    needs, clean = Networks(), Networks().needs()
    needs.first.broken = 1.0  # of which `highest` does not suffer
    found = collect(folder, needs.needs(), skip_broken=True)
    expected = collect(write(folder.parent / "clean", IMAGES), clean)
    assert len(found.skipped) == 3
    assert all("0000.png (image " in message and "lowest: features hold NaN" in message for message in found.skipped)
    assert len(found.indices) == len(IMAGES)
    for one, another in zip(found.parts, expected.parts, strict=True):
        for kind in ("moments", "score"):
            if getattr(one, kind) is not None:
                assert getattr(one, kind).num_samples == len(IMAGES)
        np.testing.assert_array_equal(one.rows, another.rows)
        if one.score is not None:  # the sums of other batches round differently
            np.testing.assert_allclose(one.score.compute().scores, another.score.compute().scores, rtol=1e-12)
    with pytest.raises(ft.BrokenImageError, match=r"0000\.png \(image .*lowest: features hold NaN or infinity"):
        collect(folder, needs.needs())


def test_rows_that_overflow_float32_are_broken():
    def large(images):
        return images.double().amax(dim=(2, 3)) * 1e36

    found = collect([np.full((8, 8, 3), value, np.uint8) for value in (1, 99, 255, 2)] * 2, [
        Need(ft.as_extractor(large, name="large"), rows=True)
    ], skip_broken=True)  # fmt: skip
    assert np.isfinite(found.parts[0].rows).all()


@pytest.mark.parametrize("rows", [False, True])
def test_memory(rows):
    """Rows are in memory once; without them it does not depend on the number of images."""
    dim, n = 2048, 400

    def wide(images):
        return images.amax(dim=(2, 3)).repeat(1, dim // 3 + 1)[:, :dim]

    peaks = []
    for number in (n // 10, n):
        images = np.zeros((number, 2, 2, 3), np.uint8) + np.arange(number, dtype=np.uint8)[:, None, None, None]
        score = None if rows else InceptionScore(dim)
        needs = [Need(ft.as_extractor(wide, name="wide"), rows=rows, score=score)]
        tracemalloc.start()
        collect(images if rows else iter(images), needs, batch_size=16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = 4 * dim * n
    # Besides: lists of names, a few batches, the score.
    assert peaks[1] < 1.2 * size if rows else peaks[1] < peaks[0] + 0.05 * size


def test_outputs_that_are_missing_or_several():
    network = Extremes()
    with pytest.raises(TypeError, match="has output='mean', but the network returned the keys 'highest', 'lowest'"):
        collect(IMAGES, [Need(ft.Extractor(network.forward, "x", output="mean"), moments=True)])
    with pytest.raises(TypeError, match="has output='mean', but the network returned Tensor"):
        collect(IMAGES, [Need(ft.Extractor(lambda x: x.amax(dim=(2, 3)), "x", output="mean"), moments=True)])
    with pytest.raises(TypeError, match=r"must return one \(n, dim\) tensor, got 2 outputs"):
        collect(IMAGES, [Need(ft.Extractor(network.forward, "x"), moments=True)])


# Checkpoints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "interval"), [("folder", 0.0), ("array", 1e9)])
def test_an_interrupted_collection_continues(monkeypatch, tmp_path, folder, kind, interval):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", interval)
    source = folder if kind == "folder" else np.stack([image[:18, :18] for image in IMAGES])
    if kind == "folder":
        (folder / "0007.png").write_bytes(b"no image")
    options = {"checkpoint": tmp_path / "run.npz", "skip_broken": True}
    expected = collect(source, Networks().needs(), **options)
    for limit in (9, 17):
        networks = Networks()
        networks.second.limit = limit
        with pytest.raises(KeyboardInterrupt):
            collect(source, networks.needs(), **options)
    assert "unfinished run" in fidfast.file_info(tmp_path / "run.npz").holds
    networks = Networks()
    assert_equal(collect(source, networks.needs(), **options), expected)
    assert sum(networks.second.calls) < len(IMAGES) - 9
    assert not (tmp_path / "run.npz").exists()


def checkpoint_of(folder, path):
    """A checkpoint of an interrupted collection."""
    networks = Networks()
    networks.second.limit = 12
    with pytest.raises(KeyboardInterrupt):
        collect(folder, networks.needs(), checkpoint=path)


@pytest.mark.parametrize("change", ["score", "rows", "order", "moments", "extractor", "precision"])
def test_a_checkpoint_of_another_collection_is_refused(tmp_path, folder, change):
    path = tmp_path / "run.npz"
    checkpoint_of(folder, path)
    needs, options = Networks().needs(), {"checkpoint": path}
    if change == "score":
        needs[1] = replace(needs[1], score=InceptionScore(12, splits=4))
    elif change == "rows":
        needs[0] = replace(needs[0], rows=False)
    elif change == "order":
        needs[0], needs[2] = needs[2], needs[0]
    elif change == "moments":
        needs[1] = replace(needs[1], moments=True)
    elif change == "extractor":
        needs[2] = replace(needs[2], extractor=replace(needs[2].extractor, resize="torch-bilinear"))
    else:
        options["precision"] = "float64"
    with pytest.raises(ValueError, match="belongs to another run"):
        collect(folder, needs, **options)
    collect(folder, Networks().needs(), checkpoint=path)


def test_a_batch_that_fails_halfway_is_not_saved(monkeypatch, tmp_path, folder, often):
    """No part of a checkpoint has rows that others lack."""
    update, calls = Moments.update, []

    def failing(self, rows, **options):
        calls.append(len(rows))
        if len(calls) == 8:  # the second of three extractors with moments, in the third batch
            raise MemoryError
        return update(self, rows, **options)

    with monkeypatch.context() as context:
        context.setattr(Moments, "update", failing)
        with pytest.raises(MemoryError):
            collect(folder, Networks().needs(), checkpoint=tmp_path / "run.npz")
    networks = Networks()
    found = collect(folder, networks.needs(), checkpoint=tmp_path / "run.npz")
    assert sum(networks.second.calls) == len(IMAGES) - 10
    assert_equal(found, collect(folder, Networks().needs()))


def test_a_damaged_checkpoint_is_refused(tmp_path, folder):
    path = tmp_path / "run.npz"
    checkpoint_of(folder, path)
    with np.load(path) as archive:
        entries = dict(archive)
    shorter = {key: entries[key][:-1] for key in ("indices", "names", "0/rows", "3/rows", "2/moments/0/narrow_rows")}
    score = entries["1/score/counts"] - np.eye(1, 3, dtype=np.int64)[0]
    changes = [
        *({key: value} for key, value in shorter.items()),
        *({key: value} for key, value in (("num_samples", np.array(3)), ("extractors", np.array(3)))),
        {"indices": entries["indices"][::-1]},
        {"names": np.frombuffer(json.dumps([1] * len(entries["indices"])).encode(), np.uint8)},
        {"0/rows": np.full_like(entries["0/rows"], np.nan)},
        {"1/score/counts": score},
        {"9/other/x": np.array(3)},
        {"x/rows": entries["0/rows"]},
        {"more": np.array(3)},
    ]
    for change in changes:
        np.savez(path, **{**entries, **change})
        with pytest.raises(ValueError, match=r"run\.npz"):
            collect(folder, Networks().needs(), checkpoint=path)
    np.savez(path, **entries)
    assert_equal(collect(folder, Networks().needs(), checkpoint=path), collect(folder, Networks().needs()))


def test_checkpoints_take_a_thirtieth_of_the_time(monkeypatch, tmp_path):
    """With a clock on which a batch takes 10 s, and writing the state 20 s."""
    now, saves = [0.0], []

    def read():
        return now[0]

    def extractor(images):
        now[0] += 10
        return images.amax(dim=(2, 3))

    def slow(*_):
        saves.append(now[0])
        now[0] += 20

    monkeypatch.setattr(extraction_pass, "_wait_for", lambda updates, but=0: [update.result() for update in updates])
    monkeypatch.setattr(extraction_pass.time, "monotonic", read)
    monkeypatch.setattr("fidfast.torch._images.checkpoint.write_state", slow)
    ft.moments_of_images([IMAGES[0]] * 300, extractor, batch_size=1, num_workers=0, checkpoint=tmp_path / "run.npz")
    assert len(saves) > 2
    assert 20 * len(saves) <= now[0] / 30 + 20  # the first one is not known to be slow


# The cache ----------------------------------------------------------------------------------------------------------


def test_cached_moments_are_used_and_written(folder):
    networks = Networks()
    cached = [ft.moments_of_images(folder, networks.extractors[number], use_cache=True).moments for number in (0, 2)]
    networks = Networks()
    needs = [Need(extractor, moments=True) for extractor in networks.extractors]
    found = collect(folder, needs, use_cache=True, batch_size=8)
    assert sum(networks.first.calls) == len(IMAGES)  # for `lowest` alone
    assert sum(networks.second.calls) == len(IMAGES)
    assert not found.from_cache
    assert [found.parts[0].moments, found.parts[2].moments] == cached
    again = collect(folder, needs, use_cache=True)
    assert again.from_cache
    assert_equal(again, found)
    assert ft.moments_of_images(folder, networks.extractors[1], use_cache=True).from_cache
    assert sum(networks.first.calls) == len(IMAGES)
    rows = collect(folder, [replace(needs[3], rows=True)], use_cache=True)  # rows are not cached
    assert sum(networks.second.calls) == 2 * len(IMAGES)
    assert rows.parts[0].moments == found.parts[3].moments


def test_cached_moments_of_images_that_another_extractor_cannot_use(folder):
    networks = Networks()
    write(folder / "0005", [np.full((20, 20, 3), 255, np.uint8)])
    highest, lowest, *_ = networks.extractors
    ft.moments_of_images(folder, highest, use_cache=True)
    networks.first.broken = 1.0
    needs = [Need(highest, moments=True), Need(lowest, moments=True)]
    found = collect(folder, needs, use_cache=True, skip_broken=True)
    assert [part.moments.num_samples for part in found.parts] == [len(IMAGES)] * 2
    assert not ft.moments_of_images(folder, lowest, use_cache=True, skip_broken=True).from_cache


@pytest.mark.parametrize("first", ["cached", "not cached"])
def test_a_checkpoint_after_a_change_of_the_cache(tmp_path, folder, first):
    """Moments that were in the cache are computed; those that are in it now are not continued."""
    options = {"checkpoint": tmp_path / "run.npz", "use_cache": True}
    expected = collect(folder, Networks().needs())

    def fill():
        ft.moments_of_images(folder, Networks().extractors[2], use_cache=True, num_workers=0, batch_size=5)

    if first == "cached":
        fill()
    networks = Networks()
    networks.second.limit = 12
    with pytest.raises(KeyboardInterrupt):
        collect(folder, networks.needs(), **options)
    fidfast.image_cache(clear=True) if first == "cached" else fill()
    networks = Networks()
    assert_equal(collect(folder, networks.needs(), **options), expected)
    assert (sum(networks.second.calls) == len(IMAGES)) == (first == "cached")
    assert not (tmp_path / "run.npz").exists()


# Statistics ---------------------------------------------------------------------------------------------------------


def test_statistics_by_extractor(tmp_path):
    highest, *_, unresized = Networks().extractors
    found = ft.stats_by_extractor(IMAGES, [highest, unresized], ddof=0, batch_size=5)
    assert list(found) == ["highest", "unresized"]
    for one in (highest, unresized):
        assert found[one.name] == ft.stats_of_images(IMAGES, one, ddof=0, batch_size=5)
    fidfast.save_stats(tmp_path / "stats", found)
    for name, stats in found.items():
        assert (
            fidfast.GaussianStats.load(tmp_path / "stats.npz", key="mu,sigma" if name == "highest" else name) == stats
        )
    with pytest.raises(ValueError, match=r"extractors\[0\] and extractors\[1\] have the same name 'highest'"):
        ft.stats_by_extractor(IMAGES, [highest, highest])
    with pytest.raises(ValueError, match="like is an option of the extractor inception"):
        ft.stats_by_extractor(IMAGES, [highest], like="adm")
