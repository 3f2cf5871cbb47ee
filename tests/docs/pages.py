"""The names that the blocks of each page use, and the files."""

import functools
import math
import os
import shutil

import numpy as np
import surroundings
import torch
from surroundings import batches, rows, stats, stats_of_images

import fidfast
import fidfast.torch

#: Number of blocks of each page that are not run; the pages have the reasons.
NOT_RUN = {
    "README.md": 3,
    "command_line.md": 1,
    "cuda.md": 1,
    "migrating.md": 2,
    "ray.md": 2,
    "scale.md": 1,
    "torchrun.md": 1,
}

#: Number of blocks that are neither code nor its output: tables, formulas, settings of other programs.
OTHER = {"README.md": 3, "kernel.md": 1, "networks.md": 1}


def prepare(name, folder, monkeypatch):
    """Write the files of a page, and return its namespace."""
    surroundings.write_images(folder)
    namespace = {"np": np, "torch": torch, "fidfast": fidfast}
    namespace.update(_NAMES[name](folder, monkeypatch) if name in _NAMES else {})
    return namespace


def pair(n=surroundings.ROWS):
    return {"samples": rows(0, 8, n), "reference": rows(1, 8, n)}


def _readme(folder, monkeypatch):
    import ray.data
    import threadpoolctl

    import fidfast.ray

    stats(1, 4).save(folder / "reference.npz")
    np.save(folder / "samples.npy", rows(0, 4))
    shards(folder)
    features = {name: rows(seed, 2048) for seed, name in enumerate(("samples", "reference", "samples_a", "samples_b"))}
    # The moments of a dataset need a cluster: tests/ray.
    monkeypatch.setattr(ray.data, "read_parquet", lambda path: path)
    monkeypatch.setattr(fidfast.ray, "moments", lambda dataset: None)
    images = list(surroundings.crops(3, [(40, 40)] * surroundings.IMAGES))
    return {
        **features,
        "features_a": rows(3, 8),
        "features_b": rows(4, 8),
        "a": rows(3, 8),
        "b": rows(4, 8),
        "batches": batches(),
        "logits": rows(5, 1008),
        "texts": ["a line of text"],
        "reference_texts": ["another line of text"],
        **{f"{name}_by_class": by_class(seed) for seed, name in enumerate(("samples", "reference"))},
        "dataset": images,
        "network": network,
        "extractor": network,
        "generator": lambda n: torch.rand(n, 3, 16, 16),
        "threadpoolctl": threadpoolctl,
    }


def network(images):
    """Features with the number of columns of the Inception network."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), (4, 4)).flatten(1).repeat(1, 43)[:, :2048]


def shards(folder):
    """Features in two Parquet files."""
    import pyarrow as pa
    import pyarrow.parquet

    (folder / "shards").mkdir()
    for seed in range(2):
        table = pa.table({"features": pa.array(list(rows(seed, 4)))})
        pa.parquet.write_table(table, folder / "shards" / f"part-{seed}.parquet")


def by_class(seed):
    moments = fidfast.ClassMoments(2048, num_classes=10)
    moments.update(rows(seed, 2048), np.arange(60) % 10)
    return moments


def _classes(folder, monkeypatch):
    return {"batches": [(rows(seed, 2048), np.arange(60) % 10) for seed in range(2)], "samples": by_class(5)}


def _cuda(folder, monkeypatch):
    return {"batches": batches(), "network": lambda batch: batch, "reference": stats(1, 2048)}


def _evaluate(folder, monkeypatch):
    stats_of_images("reference", folder / "stats.npz")
    return {"samples": "samples.npz", "reference": "reference.npz"}


def _images(folder, monkeypatch):
    def my_network(images):
        return images.float().mean(dim=3).flatten(1)

    images = list(surroundings.crops(3, [(40, 40)] * 12))
    # The page asks for a GPU and four processes.
    options = fidfast.torch.ImageOptions
    monkeypatch.setattr(
        fidfast.torch, "ImageOptions", lambda **given: options(**{**given, "device": "cpu", "num_workers": 0})
    )
    return {"dataset": images, "my_network": my_network}


def _inception_score(folder, monkeypatch):
    logits = rows(0, 1008)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {"logits": logits, "probabilities": probabilities, "batches": batches(1008)}


def _input(folder, monkeypatch):
    import zarr

    shards(folder)
    for name in ("samples", "reference"):  # folders of features on this page
        shutil.rmtree(folder / name)
    (folder / "samples").mkdir()
    np.save(folder / "samples" / "part-0.npy", rows(0, 4))
    for seed in range(2):
        zarr.save(str(folder / "reference" / f"part-{seed}.zarr"), rows(seed, 4))
    named = {"mu": stats(1, 4).mu, "sigma": stats(1, 4).sigma}
    images = np.zeros((10_000, 4, 4, 3), np.uint8)
    np.savez(folder / "reference.npz", **named, mu_s=named["mu"], sigma_s=named["sigma"], arr_0=images)
    np.save(folder / "samples.npy", rows(0, 4))
    half = stats(1, 8)
    np.savez(folder / "half.npz", mu=half.mu.astype(np.float16), sigma=half.sigma.astype(np.float16))
    return {}


def _migrating(folder, monkeypatch):
    (folder / "reference.npz").rename(folder / "VIRTUAL_imagenet256_labeled.npz")
    for name in ("img512.pkl", "samples.pkl"):
        surroundings.write_pickle_of_edm(folder / name)
    return {}


def _networks(folder, monkeypatch):
    surroundings.write_pickle_of_edm(folder / "img512.pkl")
    (folder / "a.pth").write_bytes(b"weights")
    (folder / "b.safetensors").write_bytes(b"weights")
    return {}


def _ngrams(folder, monkeypatch):
    lines = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer".splitlines()
    return {"generated_lines": lines[::-1] + lines[:1], "real_lines": lines, "batches": [lines, lines]}


def _report(folder, monkeypatch):
    sides = pair(surroundings.IMAGES)
    np.save(folder / "samples.npy", sides["samples"])
    stats(1, 8).save(folder / "reference.npz")
    return sides


def _shards(folder, monkeypatch):
    np.save(folder / "features.npy", rows(0, 8, 200))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    for number in range(1, 65):
        part = fidfast.torch.moments_of_images("samples/", "inception", shard=f"{number}/64", num_workers=0)
        part.save(folder / "parts" / f"{number}.moments.npz") if number != 3 else None
    stats_of_images("reference", folder / "reference.npz")
    return {}


def _torchrun(folder, monkeypatch):
    stats_of_images("reference", folder / "reference.npz")
    stats_of_images("reference", folder / "ref.npz")
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return {}


class Network(torch.nn.Module):
    """A generator of images from noise, or a network for their features, with 2,048 outputs."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Linear(128, 2048)

    def forward(self, x):
        return self.weights(x.flatten(1)[:, :128])


class ImageModel(torch.nn.Module):
    def forward(self, noise):
        return torch.sigmoid(noise[:, :, None, None].expand(-1, -1, 16, 16)[:, :3])


def extractor(images):
    return torch.nn.functional.pad(images.flatten(1), (0, 2048 - 768))


def _training(folder, monkeypatch):
    import ignite.engine
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    stats(1, 2048).save(folder / "reference.npz")
    monkeypatch.setattr(
        "fidfast.torch.torchmetrics._inception", lambda *_: (surroundings.SmallNetwork(2048), "inception")
    )
    generator = ImageModel()
    images = [torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    trainer = ignite.engine.Engine(lambda engine, batch: None)
    evaluator = ignite.engine.Engine(lambda engine, noise: generator(noise))
    network = Network()
    return {
        "batches": images,
        "extractor": extractor,
        "features": extractor,
        "reference": stats(1, 2048),
        "network": network,
        "noise": torch.randn(6, 128),
        "generator": generator,
        "optimizer": torch.optim.Adam(network.parameters()),
        "trainer": trainer,
        "evaluator": evaluator,
        "real_images": images[0],
        "generated_images": images[1],
        "Trainer": functools.partial(pl.Trainer, accelerator="cpu", logger=False),
        "ModelCheckpoint": ModelCheckpoint,
        "Events": ignite.engine.Events,
    }


class Features(np.ndarray):
    """Features with the names of their images, as `features_of_images` returns them."""


def _uncertainty(folder, monkeypatch):
    names = [f"{number // 6}/{number}.png" for number in range(surroundings.ROWS)]
    sides = {name: rows(seed, 2048) for seed, name in enumerate(("samples", "samples_a", "samples_b", "a", "b"))}
    features = sides["samples"].view(Features)
    features.names = names
    videos = [name.rpartition("/")[0] for name in names]
    for number, path in enumerate(sorted((folder / "frames").iterdir())):
        (folder / "frames" / f"{number // 2}").mkdir(exist_ok=True)
        path.rename(folder / "frames" / f"{number // 2}" / path.name)
    return {
        **sides,
        "features": features,
        "videos": videos,
        "reference_videos": videos,
        "reference": rows(9, 2048),
        "reference_stats": stats(9, 2048),
        "frames": "frames/",
        "os": os,
    }


def _vendi(folder, monkeypatch):
    samples = rows(0, 8)
    unit = samples / np.linalg.norm(samples, axis=1, keepdims=True)
    moments = fidfast.Moments.from_features(unit, precision="float64")
    return {"samples": samples, "kernel_matrix": unit @ unit.T, "moments_of_unit_rows": moments, "math": math}


_NAMES = {
    "README.md": _readme,
    "classes.md": _classes,
    "cuda.md": _cuda,
    "evaluate.md": _evaluate,
    "images.md": _images,
    "inception_score.md": _inception_score,
    "input.md": _input,
    "kernel.md": lambda *_: pair(1000),
    "migrating.md": _migrating,
    "mind.md": lambda *_: pair(),
    "neighbours.md": lambda *_: pair(),
    "networks.md": _networks,
    "ngrams.md": _ngrams,
    "report.md": _report,
    "shards.md": _shards,
    "torchrun.md": _torchrun,
    "training.md": _training,
    "uncertainty.md": _uncertainty,
    "vendi.md": _vendi,
}
