"""A checkpoint is continued by the same run only: the same images, and an extractor that computes the same."""

import errno
import json
import os
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import crops

import fidfast.torch as ft
from fidfast import Moments
from fidfast.torch._images import extraction_pass

POOLS = (torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveMaxPool2d)


@pytest.mark.parametrize("change", ["code", "closure", "structure", "images"])
def test_checkpoint_of_another_run_is_refused(monkeypatch, tmp_path, change):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)

    def scaled(factor):
        return lambda batch: batch.mean(dim=(2, 3)) * factor

    pools = [torch.nn.Sequential(pool(1), torch.nn.Flatten()) for pool in POOLS]
    networks = {
        "code": (lambda batch: batch.mean(dim=(2, 3)), lambda batch: batch.amax(dim=(2, 3))),
        "closure": (scaled(1), scaled(2)),
        "structure": pools,
        "images": (pools[0], pools[0]),
    }[change]
    arrays = [np.asarray(image) for image in crops(0, [(24, 24)] * 20)]
    others = [255 - array for array in arrays] if change == "images" else arrays
    checkpoint = tmp_path / "run.npz"

    with monkeypatch.context() as context:
        update = Moments.update
        calls = []

        def interrupted_update(self, rows, **options):
            if calls:
                raise KeyboardInterrupt
            calls.append(update(self, rows, **options))

        context.setattr(Moments, "update", interrupted_update)
        with pytest.raises(KeyboardInterrupt):
            ft.moments_of_images(arrays, networks[0], checkpoint=checkpoint, batch_size=8)
    assert checkpoint.exists()
    with pytest.raises(ValueError, match="belongs to another run"):
        ft.moments_of_images(others, networks[1], checkpoint=checkpoint, batch_size=8)
    ft.moments_of_images(arrays, networks[0], checkpoint=checkpoint, batch_size=8)


def test_a_checkpoint_that_contradicts_itself_is_refused(monkeypatch, tmp_path):
    """The images that are done are those in the moments and those that were skipped."""
    path, calls = tmp_path / "run.npz", []
    update = Moments.update

    def interrupted_update(self, rows, **options):
        if calls:
            raise KeyboardInterrupt
        calls.append(update(self, rows, **options))

    with monkeypatch.context() as context:
        context.setattr(Moments, "update", interrupted_update)
        with pytest.raises(KeyboardInterrupt):
            ft.moments_of_images(IMAGES, POOLS[0](1), checkpoint=path, batch_size=8)
    with np.load(path) as archive:
        entries = dict(archive)
    progress = json.loads(str(entries["progress"]))
    for change in ({"done": progress["done"] - 1}, {"skipped": ["an image"]}, {"done": 2**70}):
        np.savez(path, **{**entries, "progress": json.dumps({**progress, **change})})
        content = path.read_bytes()
        with pytest.raises(ValueError, match=r"run\.npz is damaged: .* images are done, .* delete it to start over"):
            ft.moments_of_images(IMAGES, POOLS[0](1), checkpoint=path, batch_size=8, skip_broken=True)
        assert path.read_bytes() == content


# Work that must not be lost -----------------------------------------------------------------------------------------

IMAGES = [np.asarray(image) for image in crops(0, [(24, 24), (20, 24)] * 15)]  # batches of two sizes


def colours(images):
    return images.flatten(2).float().quantile(torch.tensor([0.1, 0.5, 0.9]), dim=2).permute(1, 2, 0).flatten(1)


def after(number, error, seen=None):
    """The extractor, which raises an error after a number of images."""
    seen, limit = [] if seen is None else seen, [number, error]  # lists are not compared when a run is continued

    def extractor(images):
        if sum(seen) >= limit[0]:
            raise limit[1]
        seen.append(len(images))
        return colours(images)

    return extractor


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)


def moments(checkpoint, extractor=None, images=IMAGES):
    extractor = after(10**9, None) if extractor is None else extractor
    return ft.moments_of_images(images, extractor, checkpoint=checkpoint, batch_size=4).moments


def test_a_process_that_is_killed_at_any_moment(monkeypatch, tmp_path, often, share):
    """Before and after each operation on files, a copy of the folder is what a killed process leaves."""
    folder, copies = tmp_path / "run", []
    folder.mkdir()

    def copying(operation):
        def run(*arguments, **options):
            for call in (lambda: None, lambda: operation(*arguments, **options)):
                result = call()
                copies.append(tmp_path / f"copy {len(copies)}")
                shutil.copytree(folder, copies[-1])
            return result

        return run

    with monkeypatch.context() as context:
        for name in ("fsync", "link", "replace", "unlink"):
            context.setattr(os, name, copying(getattr(os, name)))
        expected = moments(folder / "run.npz")
    assert len(copies) > 30
    assert os.listdir(folder) == []
    for copy in share(copies, keep=6):
        assert moments(copy / "run.npz") == expected, copy.name  # bit by bit
        assert os.listdir(copy) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(3), RuntimeError("x"), MemoryError, AssertionError])
def test_any_error_saves_what_is_done(tmp_path, error):
    path, seen = tmp_path / "run.npz", []
    with pytest.raises(error if isinstance(error, type) else type(error)):
        moments(path, after(18, error))
    assert moments(path, after(10**9, None, seen)) == moments(tmp_path / "other")
    assert sum(seen) == 30 - 16  # four batches were done


def test_a_batch_that_fails_is_not_in_the_checkpoint(monkeypatch, tmp_path):
    """The state that is saved ends with the batch before, also if later batches wait for the updater."""
    update, calls = Moments.update, []

    def failing(self, rows, **options):
        calls.append(len(rows))
        if len(calls) == 3:
            raise ValueError("broken")
        return update(self, rows, **options)

    with monkeypatch.context() as context:
        context.setattr(Moments, "update", failing)
        with pytest.raises(ValueError, match="broken"):
            moments(tmp_path / "run.npz")
    seen = []
    assert moments(tmp_path / "run.npz", after(10**9, None, seen)) == moments(tmp_path / "other")
    assert sum(seen) == 30 - 8
    assert len(calls) == 3


def test_a_second_interrupt_saves_as_well(monkeypatch, tmp_path):
    leave = extraction_pass.ThreadPoolExecutor.__exit__

    def interrupted(self, *error):
        leave(self, *error)
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(extraction_pass.ThreadPoolExecutor, "__exit__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            moments(tmp_path / "run.npz", after(18, KeyboardInterrupt))
    seen = []
    assert moments(tmp_path / "run.npz", after(10**9, None, seen)) == moments(tmp_path / "other")
    assert sum(seen) == 30 - 16


def test_a_checkpoint_that_cannot_be_written_later_does_not_end_the_run(monkeypatch, tmp_path, often):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fidfast.torch._images.checkpoint.write_state", full)
    with pytest.warns(
        UserWarning, match="checkpoint: .*No space left on device.*; the run continues without it"
    ) as seen:
        assert moments(tmp_path / "run.npz") == moments(None)
    assert len(seen) == 1
    assert os.listdir(tmp_path) == []


def write_other_file(path, kind):
    if kind == "text":
        path.write_text("a thesis")
    elif kind == "moments":
        Moments(6).save(path)
    elif kind == "statistics":
        np.savez(path, mu=np.zeros(2), sigma=np.eye(2))
    else:
        with pytest.raises(KeyboardInterrupt):
            moments(path, after(9, KeyboardInterrupt), images=IMAGES[::-1])


@pytest.mark.parametrize("kind", ["text", "moments", "statistics", "checkpoint of another run"])
def test_other_files_stay(monkeypatch, tmp_path, kind, often):
    path = tmp_path / "thesis.npz"
    write_other_file(path, kind)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"thesis\.npz (is damaged or not a checkpoint|belongs to another run)"):
        moments(path)
    assert path.read_bytes() == before
    path.unlink()

    def extractor(images):
        if not path.exists() or path.read_bytes() != before:
            path.write_bytes(before)  # during the run
        return colours(images)

    with pytest.warns(UserWarning, match="it is not the checkpoint of this run any more"):
        moments(path, extractor)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["moments", "checkpoint of another run", "own"])
def test_a_cached_result_removes_its_own_checkpoint_alone(monkeypatch, tmp_path, kind):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "images.npy", np.stack([image[:20, :20] for image in IMAGES]))
    path = tmp_path / "run.npz"

    def run(function):
        extractor = replace(ft.as_extractor(function), name="efficientnet-lite0", reproducible=True)
        return ft.moments_of_images(
            tmp_path / "images.npy", extractor, checkpoint=path, use_cache=True, batch_size=4, compile=False
        )

    limit, seen = [18], []

    def stopping(images):
        if sum(seen) >= limit[0]:
            raise KeyboardInterrupt
        seen.append(len(images))
        return colours(images)

    with pytest.raises(KeyboardInterrupt):
        run(stopping)
    own = path.read_bytes()
    limit[0] = 10**9
    expected = run(stopping)
    assert not path.exists()
    if kind == "own":
        path.write_bytes(own)
    else:
        write_other_file(path, kind)
    before = path.read_bytes()
    if kind == "moments":
        with pytest.raises(ValueError, match="or not a checkpoint of an unfinished run"):
            run(stopping)
    else:
        found = run(stopping)
        assert (found.from_cache, found.moments == expected.moments) == (True, True)
    assert path.exists() == (kind != "own")
    assert kind == "own" or path.read_bytes() == before


def test_a_link_to_the_checkpoint_stays(tmp_path, often):
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "run.npz"
    link.symlink_to("scratch/run.npz")
    with pytest.raises(KeyboardInterrupt):
        moments(link, after(9, KeyboardInterrupt))
    assert (tmp_path / "scratch" / "run.npz").exists()
    moments(link)
    assert link.is_symlink()
    assert os.listdir(tmp_path / "scratch") == []


def test_a_warning_that_is_an_error_costs_no_images(tmp_path):
    """The checkpoint is removed after everything that can fail."""
    images = [*IMAGES[:8], b"not an image"]
    options = ft.ImageOptions(checkpoint=tmp_path / "run.npz", batch_size=4, skip_broken=True)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="skipped 1 image"):
            ft.stats_of_images(images, after(10**9, None), options=options)
    with pytest.warns(UserWarning, match="skipped 1 image"):
        ft.stats_of_images(images, after(10**9, None, seen), options=options)
    assert seen == []
    assert os.listdir(tmp_path) == []
