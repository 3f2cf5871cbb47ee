"""The Inception network of 2015-12-05, whose Fréchet distance is the FID.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017). The
architecture is torch-fidelity's; here it is cut open between the resize, which the tools do differently, and the rest,
which they do alike.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import urllib.error
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from fidfast.torch._extractors.extractors import Extractor
from fidfast.torch._extractors.named import Convention

__all__ = [
    "CACHED_NAMES",
    "WEIGHTS_SHA256",
    "WEIGHTS_URL",
    "inception",
    "require_plain_weights",
    "trunk",
    "weights_and_name",
]

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

#: The names under which torch-fidelity and pytorch-fid keep the same file in torch's cache.
CACHED_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")


def inception(weights: str | os.PathLike[str] | None, convention: Convention) -> Extractor:
    """The network with the pooled 2,048 features, by the conventions of one of the tools.

    Parameters
    ----------
    weights : path or None
        The weights as torch-fidelity and pytorch-fid distribute them (`WEIGHTS_URL`); looked for in torch's cache,
        then downloaded to it, where None.
    convention : Convention

    Raises
    ------
    FileNotFoundError
        If the weights are not there and cannot be downloaded; the message says what to fetch, and where to put it.
    ImportError
        If torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the weights are others than those of 2015-12-05; the extractor's name then says so, and its distance is
        not called FID.
    """
    path, name = weights_and_name(weights, stacklevel=4)
    return Extractor(
        trunk(path),
        name=name,
        input_size=(299, 299),
        resize=convention.resize,
        offset=(convention.offset,) * 3,
        divisor=(convention.divisor,) * 3,
        # The network was trained on (x - 128) / 128; the difference is small, and there.
        variant=None if convention.divisor == 128.0 else f"divisor-{convention.divisor}",
        reproducible=True,
    )


def weights_and_name(weights: str | os.PathLike[str] | None, stacklevel: int) -> tuple[Path, str]:
    """The file of the weights, as of `inception`, and the name of the network that has them.

    Raises and warns as `inception` does; `stacklevel` is the warning's.
    """
    path = Path(weights) if weights is not None else _cached_or_downloaded()
    if not path.exists():
        raise FileNotFoundError(f"no such file of weights: {path}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest == WEIGHTS_SHA256:
        return path, "inception"
    warnings.warn(
        f"{path} holds other weights than those of 2015-12-05 (SHA-256 {digest}, not {WEIGHTS_SHA256}): "
        "the distance is not an FID",
        stacklevel=stacklevel,
    )
    return path, f"inception-weights-{digest[:8]}"


def require_plain_weights(weights: Path) -> None:
    """Raises a ValueError for a file that is damaged, or a pickle of more: torch-fidelity itself would execute it."""
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{weights} is damaged or holds more than weights: {error}") from error


def trunk(weights: Path) -> torch.nn.Module:
    """From images (n, 3, 299, 299) about -1 to 1 to features (n, 2048)."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    require_plain_weights(weights)
    network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    return torch.nn.Sequential(*_layers(network), torch.nn.Flatten(1)).eval()


def _layers(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The children, which the network calls in their order, without the classifier at their end."""
    for name, layer in network.named_children():
        if name == "AvgPool":
            yield _Float()
        if name != "fc":
            yield layer


class _Float(torch.nn.Module):
    """The mean over the places is taken in float32, whatever the network's arithmetic."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def _cached_or_downloaded() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in CACHED_NAMES:
        if (folder / name).exists():
            return folder / name
    target = folder / CACHED_NAMES[0]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(WEIGHTS_URL, str(target), WEIGHTS_SHA256[:8], progress=False)
    except (urllib.error.URLError, OSError) as error:
        raise FileNotFoundError(
            f"the weights of the Inception network could not be downloaded ({error}); fetch {WEIGHTS_URL} "
            f"(SHA-256 {WEIGHTS_SHA256}), and give it with --weights FILE or put it at {target}"
        ) from error
    return target
