"""Small files and objects that the blocks of the pages use, and networks that stand in for large ones."""

import hashlib
import pickle
import zipfile

import numpy as np
import torch
from photographs import crops, write

import fidfast
import fidfast.torch
from fidfast._network_table import INCEPTION_FILES
from fidfast.torch._extractors import inception, pretrained

#: Images in each folder: the Inception score needs 10, one for each split.
IMAGES = 12

#: Rows of features.
ROWS = 60


class SmallNetwork(torch.nn.Module):
    """Seeded combinations of the colours of 16 parts of an image, in place of a large network."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features
        generator = torch.Generator().manual_seed(num_features)
        self.colours = torch.nn.AdaptiveAvgPool2d(4)
        self.weights = torch.nn.Linear(48, num_features)
        torch.nn.init.normal_(self.weights.weight, generator=generator)
        torch.nn.init.zeros_(self.weights.bias)

    def forward(self, images):
        return self.weights(self.colours(images.float()).flatten(1)).relu()

    def forward_features(self, images):
        return self(images)[:, :, None, None]


class SmallInception(torch.nn.Module):
    """The three outputs of the Inception network."""

    def __init__(self):
        super().__init__()
        for key, num_features in inception.INCEPTION_OUTPUTS.values():
            self.add_module(key, SmallNetwork(num_features))

    def forward(self, images):
        return {key: network(images) for key, network in self.named_children()}


def stand_in(monkeypatch, folder):
    """Replace the Inception network and those of `NETWORKS`; files stand in for their weights."""
    checkpoints = folder / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setenv("FIDFAST_CACHE", str(folder / "cache"))
    (checkpoints / INCEPTION_FILES[0]).write_bytes(b"weights")
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(inception, "inception_network", lambda path: SmallInception().eval())
    for entry in fidfast.torch.NETWORKS.values():
        (checkpoints / entry.file_name).write_bytes(b"weights")
    monkeypatch.setattr(pretrained, "_tensors", lambda path: {})
    monkeypatch.setattr(pretrained, "_load", lambda network, tensors, refusal: None)
    monkeypatch.setattr(pretrained, "_set_input_size", lambda network, entry: None)
    monkeypatch.setattr(pretrained, "_architecture", lambda name, entry: lambda: SmallNetwork(entry.num_features))


def write_images(folder):
    """samples/ and reference/ as folders and archives of images, and files of ADM's and EDM2's formats."""
    for seed, name in enumerate(("samples", "reference", "train", "frames")):
        write(folder / name, crops(seed, [(40, 40)] * IMAGES))
    for seed, name in enumerate(("samples", "reference")):
        np.savez(folder / f"{name}.npz", arr_0=np.stack(list(crops(seed, [(40, 40)] * IMAGES))))
    with zipfile.ZipFile(folder / "samples.zip", "w") as archive:
        for path in sorted((folder / "samples").iterdir()):
            archive.write(path, path.name)
    for name in ("parts", "rows"):
        (folder / name).mkdir()


def rows(seed, dim, n=ROWS):
    return np.random.default_rng(seed).normal(0.1 * seed, 1, (n, dim)).astype(np.float32)


def stats(seed, dim, extractor=None):
    moments = fidfast.Moments(dim, extractor=extractor)
    moments.update(rows(seed, dim))
    return moments.stats()


def batches(dim=2048):
    return [rows(seed, dim, 20) for seed in range(3)]


def stats_of_images(folder, file, *extractors):
    """Statistics of several extractors in one file, by default of `inception`."""
    fidfast.save_stats(file, fidfast.torch.stats_by_extractor(folder, list(extractors) or ["inception"]))


def write_pickle_of_edm(path):
    """Statistics of two networks, as EDM2 stores them."""
    sides = {"fid": stats(1, 2048), "fd_dinov2": stats(1, 1024)}
    with open(path, "wb") as file:
        pickle.dump({name: {"mu": side.mu, "sigma": side.sigma} for name, side in sides.items()}, file)
