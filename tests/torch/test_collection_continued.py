"""A collection continues from its checkpoint and uses the cache, with the result of one pass, bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from photographs import write
from several import IMAGES, Networks, assert_equal, collect

import fidfast
import fidfast.torch as ft
from fidfast import InceptionScore, Moments
from fidfast.torch._images import extraction_pass
from fidfast.torch._images.collection import Need


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return write(tmp_path / "images", IMAGES)


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
        options["precision"] = "float32"
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
