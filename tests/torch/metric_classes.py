"""torchmetrics' class and ours for tests that run on both, and a network that returns its input."""

import warnings

import pytest
import torch

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import torchmetrics.image.fid

import fidfast.torch.torchmetrics

CLASSES = [torchmetrics.image.fid.FrechetInceptionDistance, fidfast.torch.torchmetrics.FrechetInceptionDistance]
OURS = CLASSES[1]
both = pytest.mark.parametrize("cls", CLASSES, ids=["theirs", "ours"])


class Rows(torch.nn.Module):
    """Takes features as images, and returns them in its own dtype."""

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
