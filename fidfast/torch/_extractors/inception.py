"""The Inception network of 2015-12-05: the features of the FID and the sFID, and the logits of the Inception Score.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017); Nash et al.,
"Generating Images with Sparse Representations" (2021); Salimans et al., "Improved Techniques for Training GANs" (2016).
The architecture is torch-fidelity's. Only the part after the resize is used, since the resize depends on the tool.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
from pathlib import Path
from typing import Any

import torch

from fidfast._files import require_tensors
from fidfast._network_table import INCEPTION_FILES
from fidfast._warnings import warn_user
from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.conventions import Convention
from fidfast.torch._extractors.extractor import Extractor

__all__ = [
    "INCEPTION_OUTPUTS",
    "WEIGHTS_SHA256",
    "WEIGHTS_URL",
    "InceptionNetwork",
    "ToFloat32",
    "find_file_of_inception",
    "find_weights",
    "inception_extractors",
    "inception_network",
]

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

#: By name of the extractor: the key of its features in the output of `InceptionNetwork`, and their number.
INCEPTION_OUTPUTS = {
    "inception": ("pool", 2048),
    "inception-spatial": ("spatial", 17 * 17 * 7),
    "inception-logits": ("logits", 1008),
}


def inception_extractors(weights: str | os.PathLike[str] | None, convention: Convention) -> dict[str, Extractor]:
    """Extractors by name, as in `INCEPTION_OUTPUTS`, that share one network, with the conventions of a tool.

    Parameters
    ----------
    weights : path or None
        The weights as torch-fidelity and pytorch-fid distribute them (`WEIGHTS_URL`). If None, torch's cache is
        searched, then the file is downloaded to it.
    convention : Convention

    Raises
    ------
    FileNotFoundError
        If the weights are not found and cannot be downloaded; the message says what to download and where to put it.
    ImportError
        If torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the weights are not those of 2015-12-05.
    """
    path, name_of_pool = find_weights(weights)
    with full_float32(), ordinary_tensors():
        network = inception_network(path)
    return {
        name: Extractor(
            network,
            name=name + name_of_pool.removeprefix("inception"),
            input_size=(299, 299),
            resize=convention.resize,
            offset=(convention.offset,) * 3,
            divisor=(convention.divisor,) * 3,
            num_features=num_features,
            # The network was trained on (x - 128) / 128; another divisor changes the features slightly.
            variant=None if convention.divisor == 128.0 else f"divisor-{convention.divisor}",
            reproducible=True,
            output=output,
        )
        for name, (output, num_features) in INCEPTION_OUTPUTS.items()
    }


def find_weights(weights: str | os.PathLike[str] | None) -> tuple[Path, str]:
    """The weights file, as in `inception_extractors`, and the name of the extractor of its pooled features.

    Raises and warns as `inception_extractors` does.
    """
    path = find_file_of_inception(weights)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest == WEIGHTS_SHA256:
        return path, "inception"
    warn_user(
        f"the weights in {path} are not those of 2015-12-05 (SHA-256 {digest}, expected {WEIGHTS_SHA256}): "
        "the distance is not an FID"
    )
    return path, f"inception-weights-{digest[:8]}"


def find_file_of_inception(weights: str | os.PathLike[str] | None) -> Path:
    """The weights file, as in `inception_extractors`; raises as it does."""
    path = Path(weights) if weights is not None else _cached_or_downloaded()
    if not path.exists():
        raise FileNotFoundError(f"no such weights file: {path}")
    if not path.is_file():  # opening a FIFO would wait for a writer for ever
        raise ValueError(f"weights: {path} is not a regular file")
    return path


def inception_network(weights: Path) -> InceptionNetwork:
    """The network with the weights of a file as torch-fidelity and pytorch-fid distribute it."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    require_tensors(weights)  # torch-fidelity would execute a pickle of other objects
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    except RuntimeError as error:  # of load_state_dict, with a list of all names
        raise ValueError(
            f"weights: {weights} does not hold the weights of inception: pass the file {INCEPTION_FILES[0]}, or name "
            "the network, for example weights={'dinov2-vitl14': path} (--weights NAME=FILE)"
        ) from error
    return InceptionNetwork(network).eval()


class InceptionNetwork(torch.nn.Module):
    """From images (n, 3, 299, 299), with values from about -1 to 1, to the three outputs.

    ``pool`` (n, 2048), ``spatial`` (n, 2023), the first 7 channels of ``mixed_6/conv`` in TensorFlow's order of height,
    width and channels, and ``logits`` (n, 1008) without the biases of the classifier, all float32.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        layers = dict(network.named_children())  # in the order of their calls
        names = list(layers)
        last = names.index("Mixed_6d") + 1
        self.to_spatial = torch.nn.Sequential(*(layers[name] for name in names[:last]))
        self.to_pool = torch.nn.Sequential(
            *(layers[name] for name in names[last:] if name not in ("AvgPool", "fc")),
            ToFloat32(),
            layers["AvgPool"],
            torch.nn.Flatten(1),
        )
        self.classifier = torch.nn.Linear(2048, 1008, bias=False)
        self.classifier.weight = layers["fc"].weight

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.to_spatial(images)
        pool = self.to_pool(maps)
        # The channels of `mixed_6/conv`, the branch of one convolution, are the first of the maps.
        spatial = maps[:, :7].permute(0, 2, 3, 1).flatten(1).float()
        logits = torch.nn.functional.linear(pool, self.classifier.weight.float())
        return {"pool": pool, "spatial": spatial, "logits": logits}


class ToFloat32(torch.nn.Module):
    """Makes the pooling use float32, whatever the network's arithmetic."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def _cached_or_downloaded() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in INCEPTION_FILES:
        if (folder / name).exists():
            return folder / name
    target = folder / INCEPTION_FILES[0]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(WEIGHTS_URL, str(target), WEIGHTS_SHA256[:8], progress=False)
    except (urllib.error.URLError, OSError) as error:
        raise FileNotFoundError(
            f"the weights of the Inception network could not be downloaded ({error}); download {WEIGHTS_URL} "
            f"(SHA-256 {WEIGHTS_SHA256}), and pass it as weights (--weights inception=FILE) or put it at {target}"
        ) from error
    return target
