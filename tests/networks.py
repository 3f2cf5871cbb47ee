"""The Inception architecture with seeded random weights, stored where torch-fidelity and pytorch-fid look for them."""

from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from fidfast._network_table import INCEPTION_FILES


class _Unloaded(FeatureExtractorInceptionV3):
    def load_state_dict(self, *_arguments, **_options):
        """Load nothing: the weights are generated below."""


def seeded_inception_weights(torch_home: Path) -> Path:
    """Write the weights into torch's cache below `torch_home`, and return the file.

    Every layer keeps the scale of its input (He et al., 2015), and every batch norm changes it a little, so that the
    features are about 1, and a missing batch norm changes them.
    """
    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INCEPTION_FILES[0]
    torch.save({}, path)
    network = _Unloaded("inception", ["2048"], str(path))
    random = torch.Generator().manual_seed(20151205)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            module.weight.data.uniform_(0.8, 1.2, generator=random)
            module.bias.data.normal_(0, 0.1, generator=random)
    for name in INCEPTION_FILES:
        torch.save(network.state_dict(), folder / name)
    return path
