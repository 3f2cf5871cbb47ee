"""The extractor of the image experiments: a small classifier of the data set itself, trained first.

A network trained on ImageNet sees little in grey images of 28 x 28 pixels; a classifier of the same images is what the
literature uses for them. Its distances are not FIDs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import fidfast.torch
from benchmarks.gans import data
from benchmarks.gans.work import Part

#: Name of a data set to its functions: training images and test images.
SETS = {
    "fashion-mnist": (lambda: data.fashion("train"), lambda: data.fashion("t10k")),
    "digits": (data.digits, data.digits),
}


class Classifier(nn.Module):
    """Three convolutions and a mean over positions, which are the features, then a linear layer."""

    def __init__(self, num_features: int, num_classes: int = 10) -> None:
        super().__init__()
        width = num_features // 4
        self.features = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width // 2, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, num_features, 3, padding=1, bias=False),
            nn.BatchNorm2d(num_features),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of (n, 1, height, width) images from -1 to 1."""
        return self.head(self.features(images))


class _GreyFeatures(nn.Module):
    """Features of (n, 3, height, width) images whose channels are equal, averaged over the cells of a square grid."""

    def __init__(self, classifier: Classifier, grid: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*classifier.features[:-2], nn.AdaptiveAvgPool2d(grid), nn.Flatten())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images[:, :1])


def train(part: Part, *, dataset: str, num_features: int, epochs: int) -> dict[str, Any]:
    """Train the classifier; a part of a run.

    Returns
    -------
    dict
        ``weights``, ``accuracy`` on the test images (for the digits, on the training images), and statistics ``mu`` and
        ``sigma`` of the features of the training images.
    """
    torch.manual_seed(0)
    training, test = SETS[dataset][0](), SETS[dataset][1]()
    classifier = Classifier(num_features)
    images, labels = to_tensor(training.images), torch.from_numpy(training.labels)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(images)).split(128)]
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=len(batches))
    for rows in batches:
        loss = nn.functional.cross_entropy(classifier(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    classifier.eval()
    with torch.inference_mode():
        guessed = torch.cat([classifier(to_tensor(chunk)).argmax(1) for chunk in np.array_split(test.images, 20)])
    accuracy = float((guessed.numpy() == test.labels).mean())
    weights = classifier.state_dict()
    stats = fidfast.torch.stats_of_images(
        np.repeat(training.images[..., np.newaxis], 3, axis=-1), extractor(dataset, weights), batch_size=128
    )
    return {
        "weights": weights,
        "accuracy": accuracy,
        "mu": torch.from_numpy(np.array(stats.mu)),
        "sigma": torch.from_numpy(np.array(stats.sigma)),
        "num_samples": len(images),
    }


def extractor(dataset: str, weights: dict[str, torch.Tensor], *, grid: int = 1) -> fidfast.torch.Extractor:
    """The classifier's features as an extractor of images with three equal channels.

    With ``grid=4`` they are averaged over 4 x 4 parts of the image instead of all of it: 16 times as many features,
    which depend on the position, as those of the sFID (Nash et al. 2021).
    """
    channels = weights["head.weight"].shape[1]
    classifier = Classifier(channels).eval()
    classifier.load_state_dict(weights)
    num_features = channels * grid**2
    return fidfast.torch.Extractor(
        _GreyFeatures(classifier, grid).eval(),
        name=f"{dataset}-classifier-{num_features}",
        offset=(127.5,) * 3,
        divisor=(127.5,) * 3,
        num_features=num_features,
    )


def reference(dataset: str, trained: dict[str, Any]) -> fidfast.GaussianStats:
    """Statistics of the features of the training images, from the result of `train`."""
    return fidfast.GaussianStats(
        trained["mu"].numpy(),
        trained["sigma"].numpy(),
        num_samples=trained["num_samples"],
        extractor=extractor(dataset, trained["weights"]).full_name,
    )


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """(n, 1, height, width) float32 from -1 to 1."""
    return torch.from_numpy(images).unsqueeze(1).float() / 127.5 - 1
