"""torchmetrics' class and ours, to be tested side by side, and a network that passes features on."""

import warnings

import pytest
import torch

with warnings.catch_warnings():  # what the peers' imports say is not ours to mend
    warnings.simplefilter("ignore")
    import torchmetrics.image.fid

import fidfast.torch.torchmetrics

CLASSES = [torchmetrics.image.fid.FrechetInceptionDistance, fidfast.torch.torchmetrics.FrechetInceptionDistance]
OURS = CLASSES[1]
both = pytest.mark.parametrize("cls", CLASSES, ids=["theirs", "ours"])


class Rows(torch.nn.Module):
    """Takes features for images and passes them on, in the dtype that it has."""

    def __init__(self, dim=24):
        super().__init__()
        self.num_features = dim
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, rows):
        return rows.to(self.weight.dtype) * self.weight


def filled(metric, real, fake, size=64):
    for batch in real.split(size):
        metric.update(batch, real=True)
    for batch in fake.split(size):
        metric.update(batch, real=False)
    return metric
