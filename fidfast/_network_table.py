"""Table of pretrained networks: weights, preprocessing and output, as the tool that defined the metric has them.

Does not import torch, so that `environment` can look for the weights without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["FDR_DISTANCES", "INCEPTION_FILES", "NETWORKS", "SHORT_NAMES", "PretrainedNetwork"]

Channels = tuple[float, float, float]

_IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP: tuple[Channels, Channels] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

#: Other input sizes than that of the training: positions interpolated, images padded to whole patches by timm.
_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}


class PretrainedNetwork(NamedTuple):
    """A network that `load_extractor` loads by name: its weights, its preprocessing and its features."""

    #: Package with the architecture: "timm" or "torchvision".
    package: str
    #: Name of the architecture in the package.
    architecture: str
    #: URL of the weights: of a repository of the Hugging Face Hub, which has the file ``model.safetensors``, or a file.
    url: str
    #: Number of features.
    num_features: int
    #: Tool and paper that define the preprocessing and the output.
    source: str
    #: SHA-256 of the file at `url`, or its first digits, if the publisher states it.
    sha256: str | None = None
    #: Names of other files with the same weights, which other tools store in torch's cache.
    other_files: tuple[str, ...] = ()
    #: Height and width of the input in pixels.
    input_size: int = 224
    #: One of `fidfast.torch.RESIZES`.
    resize: str = "torch-bicubic-antialias"
    #: Mean and standard deviation by channel of pixels from 0 to 1: ``(x / 255 - mean) / std`` is the input.
    mean: Channels = _IMAGENET[0]
    std: Channels = _IMAGENET[1]
    #: "forward", what the network returns; "unit", divided by its Euclidean norm; or "mean", the mean over positions
    #: of ``forward_features``.
    output: str = "forward"
    #: Arguments of the architecture.
    options: Mapping[str, Any] = {}

    @property
    def repository(self) -> str | None:
        """Repository of the Hugging Face Hub, or None if `url` is a file."""
        return self.url.removeprefix("https://huggingface.co/") if self.package == "timm" else None

    @property
    def file_url(self) -> str:
        """URL of the weights file."""
        return f"{self.url}/resolve/main/model.safetensors" if self.repository else self.url

    @property
    def file_name(self) -> str:
        """Name of the weights file in torch's cache."""
        name = self.url.rsplit("/", 1)[1]
        return f"{name}.safetensors" if self.repository else name


def _clip(size: int, **changes: Any) -> PretrainedNetwork:
    values: dict[str, Any] = {
        "package": "timm",
        "architecture": f"vit_large_patch14_clip_quickgelu_{size}",
        "url": f"https://huggingface.co/timm/vit_large_patch14_clip_{size}.openai",
        "num_features": 768,
        "input_size": size,
        "resize": "pil-bicubic-uint8",
        "mean": _CLIP[0],
        "std": _CLIP[1],
        "output": "unit",
        "options": {"num_classes": 768},
        "source": "CMMD (Jayasumana et al. 2024): image embedding of unit norm",
    }
    return PretrainedNetwork(**{**values, **changes})


def _dinov2(**changes: Any) -> PretrainedNetwork:
    values: dict[str, Any] = {
        "package": "timm",
        "architecture": "vit_large_patch14_dinov2",
        "url": "https://huggingface.co/timm/vit_large_patch14_dinov2.lvd142m",
        "other_files": ("dinov2_vitl14_pretrain.pth",),
        "num_features": 1024,
        "source": "FD-DINOv2 (Stein et al. 2023) as in EDM2: normalized CLS token",
    }
    return PretrainedNetwork(**{**values, **changes})


#: Pretrained networks by the name that `load_extractor` takes.
NETWORKS: dict[str, PretrainedNetwork] = {
    "dinov2-vitl14": _dinov2(),
    "clip-vit-l14": _clip(224),
    "clip-vit-l14-336": _clip(336),
    "convnextv2-base": PretrainedNetwork(
        package="timm",
        architecture="convnextv2_base",
        url="https://huggingface.co/timm/convnextv2_base.fcmae_ft_in22k_in1k",
        num_features=1024,
        output="mean",
        options={"num_classes": 0},
        source="FDr (Yang et al. 2026): mean over positions of the last stage",
    ),
    "mae-vitl16": PretrainedNetwork(
        package="timm",
        architecture="vit_large_patch16_224",
        url="https://huggingface.co/timm/vit_large_patch16_224.mae",
        other_files=("mae_pretrain_vit_large.pth",),
        num_features=1024,
        options={"num_classes": 0},
        source="FDr (Yang et al. 2026): normalized CLS token",
    ),
    "siglip2-so400m": PretrainedNetwork(
        package="timm",
        architecture="vit_so400m_patch16_siglip_256",
        url="https://huggingface.co/timm/vit_so400m_patch16_siglip_256.v2_webli",
        num_features=1152,
        mean=_HALF[0],
        std=_HALF[1],
        options={"num_classes": 0, **_ANY_SIZE},
        source="FDr (Yang et al. 2026): output of the attention pooling",
    ),
    "vgg16": PretrainedNetwork(
        package="torchvision",
        architecture="vgg16",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af",
        num_features=4096,
        resize="tf1-bilinear",
        source="torch-fidelity's vgg16: second fully connected layer after its ReLU",
    ),
    "swav-resnet50": PretrainedNetwork(
        package="torchvision",
        architecture="resnet50",
        url="https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
        num_features=2048,
        resize="pil-bilinear-uint8",
        source="FD-SwAV (Morozov, Voynov & Babenko 2021): pooled features",
    ),
    "dinov2-vitl14-fdr": _dinov2(
        input_size=256, options=_ANY_SIZE, source="FDr (Yang et al. 2026): normalized CLS token at 256 x 256"
    ),
    "clip-vit-l14-fdr": _clip(
        224,
        architecture="vit_large_patch14_clip_224",  # with GELU, although the weights were trained with QuickGELU
        num_features=1024,
        input_size=256,
        resize="torch-bicubic-antialias",
        output="forward",
        options={"num_classes": 0, **_ANY_SIZE},
        source="FDr (Yang et al. 2026): normalized CLS token at 256 x 256",
    ),
}

#: Names under which torch-fidelity and pytorch-fid store the weights of the 2015 Inception network in torch's cache.
INCEPTION_FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")

#: Fréchet distance of ImageNet's validation set to its training set, both center-cropped to 256 x 256, by extractor.
#: The FDr is the mean over these extractors of the distance divided by this number (Yang et al., "Representation
#: Fréchet Loss for Visual Generation", 2026, and the README of the FD-Loss repository).
FDR_DISTANCES: dict[str, float] = {
    "inception": 1.68,
    "convnextv2-base": 56.87,
    "dinov2-vitl14-fdr": 14.19,
    "mae-vitl16": 0.04,
    "siglip2-so400m": 0.60,
    "clip-vit-l14-fdr": 5.60,
}

#: Short forms of the names of networks.
SHORT_NAMES = {
    "dinov2": "dinov2-vitl14",
    "clip": "clip-vit-l14",
    "convnextv2": "convnextv2-base",
    "mae": "mae-vitl16",
    "siglip2": "siglip2-so400m",
    "swav": "swav-resnet50",
    "vgg": "vgg16",
}
