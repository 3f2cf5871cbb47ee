"""Program of several processes that share images; see `test_shared_images.py`."""

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import evaluations
import numpy as np
import pytest
import torch
import torch.distributed as dist
from image_files import png, write_files

import fidfast
import fidfast.torch as ft
from fidfast.torch._evaluation import metrics
from fidfast.torch._images import collection, extraction_pass
from fidfast.torch._processes import ranks

RANK = SIZE = 0
OPTIONS = {"device": "cpu", "num_workers": 0}
IMAGES = evaluations.images(3, 40)


def sums(images):
    """Sums of the pixels of two parts of each channel: integers, so that they do not depend on the batch."""
    images = (255 * images).round()
    return torch.cat([images[:, :, :3].sum(dim=(2, 3)), images[:, :, 3:].sum(dim=(2, 3))], dim=1)


def folder_of(path, broken=()):
    path.mkdir(exist_ok=True)
    files = {f"{k:02}.png": b"no image" if k in broken else png(image) for k, image in enumerate(IMAGES)}
    return write_files("folder", path, files)


def as_one_process(call, *arguments, **options):
    """The results of the call by all processes, and by this one alone."""
    return call(*arguments, distributed=True, **OPTIONS, **options), call(*arguments, **OPTIONS, **options)


def require_equal_stats(one, two):
    deviation = np.sqrt(np.diag(two.sigma))
    assert one.num_samples == two.num_samples
    np.testing.assert_allclose(one.mu, two.mu, rtol=1e-14)
    # Each entry is a sum of 40 products in another order, 40 u = 4e-15 of the deviations.
    np.testing.assert_allclose(one.sigma / np.outer(deviation, deviation), two.sigma / np.outer(deviation, deviation),
                               rtol=0, atol=1e-14)  # fmt: skip


def sources(folder):
    """The same result from every kind of source, for all images, fewer than processes, and fewer than features."""
    loader = torch.utils.data.DataLoader([torch.from_numpy(image).permute(2, 0, 1) for image in IMAGES], batch_size=7)
    for source in (IMAGES, folder, loader, IMAGES[:2], IMAGES[:5]):
        found, alone = as_one_process(ft.features_of_images, source, sums)
        np.testing.assert_array_equal(found.features, alone.features)
        assert (found.names, found.indices, found.extractor) == (alone.names, alone.indices, alone.extractor)
        found, alone = as_one_process(ft.moments_of_images, source, sums)
        assert found.to_dict() == alone.to_dict()
        require_equal_stats(found.moments.stats(), alone.moments.stats())
        if alone.moments.num_samples <= 6:  # kept as rows: bit by bit
            np.testing.assert_array_equal(found.moments.stats().sigma, alone.moments.stats().sigma)
    found, alone = as_one_process(ft.moments_of_images, IMAGES, sums, blocks=3)
    require_equal_stats(found.moments.stats(), alone.moments.stats())
    assert ft.fid_of_images(IMAGES[:20], folder, sums, distributed=True, **OPTIONS) == pytest.approx(
        ft.fid_of_images(IMAGES[:20], folder, sums, **OPTIONS), rel=1e-12
    )
    statistics = fidfast.Moments.from_features(np.random.default_rng(0).normal(size=(30, 6))).stats()
    found, alone = as_one_process(ft.fid_of_images, folder, statistics, sums)
    assert found == pytest.approx(alone, rel=1e-12)
    found, alone = as_one_process(ft.stats_by_extractor, IMAGES, [ft.as_extractor(sums, name=name) for name in "ab"])
    for name in "ab":
        require_equal_stats(found[name], alone[name])


def broken_images(folder):
    """The numbers of one process, whose splits depend on the positions of the images that are left."""
    networks = evaluations.Networks()
    folder_of(folder, broken=(2, 3, 17, 39))
    metrics.ADM_SPLIT_SIZE = 7
    reference = evaluations.images(4, 30)
    for like, source, names in (
        (None, folder, "is,fid,sfid,precision,recall,kid"),
        (None, IMAGES, "is,fid"),
        ("adm", folder, "is"),
        ("adm", IMAGES, "is,sfid"),
        ("stylegan3", folder, "is"),
    ):
        options = {"like": like, "metrics": names, "batch_size": 1, "skip_broken": source is folder}
        found = evaluations.evaluate(networks, source, reference, distributed=True, **options)
        alone = evaluations.evaluate(networks, source, reference, **options)
        assert found.values == pytest.approx(alone.values, rel=1e-12)
        assert (found.skipped, found.num_samples) == (alone.skipped, alone.num_samples)
        assert found.results["is"].scores == pytest.approx(alone.results["is"].scores, rel=1e-12)
    found = ft.moments_of_images(folder, sums, skip_broken=True, distributed=True, **OPTIONS)
    assert [message.split(":")[0].split("/")[-1] for message in found.skipped] == [
        "02.png",
        "03.png",
        "17.png",
        "39.png",
    ]


def fails(call, rank, kind, pattern):
    """The call raises `kind` on one rank, or on all if it is None, and on the others an error that names the rank."""
    if rank in (None, RANK):
        with pytest.raises(kind, match=pattern):
            call()
    else:
        with pytest.raises(
            RuntimeError, match=f"another process failed: rank {rank} raised {kind.__name__}.*{pattern}"
        ):
            call()


def errors(folder):
    def shared(source, extractor=sums, **options):
        return lambda: ft.moments_of_images(source, extractor, **{"distributed": True, **OPTIONS, **options})

    with pytest.raises(ValueError, match="distributed=True needs a fixed order of images, but generator cannot be"):
        shared(image for image in IMAGES)()
    fails(shared([png(IMAGES[0]), b"no image", *map(png, IMAGES)]), 0, ft.BrokenImageError, "image 1")
    last = SIZE - 1

    def failing(images):
        if last == RANK:
            raise FloatingPointError("of the network")
        return sums(images)

    fails(shared(IMAGES, failing), last, FloatingPointError, "of the network")
    fails(shared(IMAGES if RANK > 0 else "gone"), 0, FileNotFoundError, "gone")
    fails(shared(np.full((9, 4, 4, 3), np.nan)), None, ValueError, "image")
    with pytest.raises(ValueError, match="group needs distributed=True"):
        ft.ImageOptions(group=dist.group.WORLD)
    if SIZE > 2:
        group = dist.new_group([0, 2])
        if RANK == 1:
            with pytest.raises(ValueError, match="group does not contain this process"):
                shared(IMAGES, group=group)()
        else:
            found = shared(IMAGES, group=group)().moments.stats()
            require_equal_stats(found, ft.stats_of_images(IMAGES, sums, **OPTIONS))


def slow_process():
    """The others wait for longer than the timeout of the group, 2 s."""

    def slow(images):
        time.sleep(2.5 if RANK == 1 else 0)
        return sums(images)

    found = ft.moments_of_images(IMAGES[:SIZE], slow, distributed=True, **OPTIONS)
    assert found.moments.num_samples == SIZE


def checkpoints(folder):
    """Each process continues from its own file."""
    extraction_pass.CHECKPOINT_INTERVAL = 0
    seen = []

    def counting(images):
        seen.append(len(images))
        if len(seen) == 3 and RANK == 0:
            raise FloatingPointError("stopped")
        return sums(images)

    def call():
        return ft.moments_of_images(IMAGES, counting, checkpoint=folder / "run", batch_size=2, distributed=True,
                                    **OPTIONS)  # fmt: skip

    fails(call, 0, FloatingPointError, "stopped")
    own = folder / f"run.rank-{RANK}-of-{SIZE}.npz"
    assert own.exists()
    with pytest.raises(ValueError, match=f"of-{SIZE}.npz is of a run with {SIZE} processes, this one has 1: continue"):
        ft.moments_of_images(IMAGES, sums, checkpoint=folder / "run", **OPTIONS)
    dist.barrier()
    found = call()
    assert not own.exists()
    part = len(IMAGES) * (RANK + 1) // SIZE - len(IMAGES) * RANK // SIZE
    assert sum(seen) == part + (2 if RANK == 0 else 0)  # the batch that failed was seen twice
    require_equal_stats(found.moments.stats(), ft.stats_of_images(IMAGES, sums, **OPTIONS))


def cache(folder):
    """The moments of all images are in the cache, not those of a part."""
    os.environ["FIDFAST_CACHE"] = str(folder / f"cache{RANK}")
    folder_of(folder / "cached")
    dist.barrier()
    extractor = replace(ft.as_extractor(sums, name="sums"), reproducible=True)
    results = [
        ft.moments_of_images(folder / "cached", extractor, use_cache=True, distributed=True, **OPTIONS)
        for _ in range(2)
    ]
    assert [found.from_cache for found in results] == [False, True]
    for found in results:
        require_equal_stats(found.moments.stats(), ft.stats_of_images(IMAGES, sums, **OPTIONS))
    assert os.path.exists(os.environ["FIDFAST_CACHE"]) == (RANK == 0)
    found = ft.moments_of_images(folder / "cached", extractor, use_cache=True, **OPTIONS)
    assert found.from_cache == (RANK == 0)
    assert found.moments.num_samples == 40


def progress():
    """The first process shows the images of all."""
    shown = []

    class Bar(contextlib.nullcontext):
        def update(self, number):
            shown.append(number)

    def progress_bar(total, show, *, initial, **_):
        assert show == (RANK == 0)
        shown.append(initial)
        return Bar(Bar())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "progress_bar", progress_bar)
        ft.moments_of_images(IMAGES, sums, distributed=True, progress=True, **OPTIONS)
    assert sum(shown) == 40
    assert max(shown) < 40  # not at once


def one_at_a_time(folder):
    """The first process downloads a file that the others find."""
    file = folder / "weights"
    with ranks.sharing(True, None) as processes:
        for _ in range(2):
            with processes.after_first_of_machine():
                assert file.exists() == (RANK > 0)
                if RANK == 0:
                    time.sleep(0.3)
                    file.touch()
            processes.exchange()
            file.unlink(missing_ok=True)
            processes.exchange()


def dead_process():
    """Noticed without the help of the process group."""

    def dying(images):
        if RANK == SIZE - 1:
            os._exit(9)
        return sums(images)

    with pytest.raises(RuntimeError, match=f"rank {SIZE - 1} has given no sign of life for"):
        ft.moments_of_images(IMAGES, dying, distributed=True, **OPTIONS)


def run(folder):
    global RANK, SIZE
    RANK, SIZE = dist.get_rank(), dist.get_world_size()
    folder = Path(folder)
    torch.set_num_threads(1)
    ranks.BEAT, ranks.SILENT = 0.1, 5
    images = folder / "images"
    if RANK == 0:
        folder_of(images)
    dist.barrier()
    sources(images)
    dist.barrier()
    broken_images(images)
    errors(images)
    slow_process()
    checkpoints(folder)
    cache(folder)
    progress()
    one_at_a_time(folder)
    dead_process()
