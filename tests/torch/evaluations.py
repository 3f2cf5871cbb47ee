"""A small network with the three outputs of the Inception network, and images, for the tests of `evaluate`."""

import numpy as np
import torch

import fidfast.torch as ft

OPTIONS = {"device": "cpu", "num_workers": 0}

#: Sizes of the outputs by name of the extractor.
DIMS = {"inception": 16, "inception-spatial": 8, "inception-logits": 5}


class ThreeOutputs(torch.nn.Module):
    """Seeded, not trained; counts the images that it has seen."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.kernel = torch.nn.Parameter(torch.randn(16, 3, 3, 3, generator=random))
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        maps = torch.nn.functional.conv2d(images, self.kernel).relu()
        pool = maps.mean(dim=(2, 3))
        return {"pool": pool, "spatial": maps[:, :2, ::3, ::3].flatten(1), "logits": 4 * pool[:, :5]}


class Networks:
    """Extractors by name: those of one network with three outputs, and one of another network."""

    def __init__(self):
        self.network = ThreeOutputs()
        # Not copied when they are prepared, so that they count.
        outputs = zip(DIMS, ("pool", "spatial", "logits"), strict=True)
        call = self.network.__call__
        self.extractors = {
            name: ft.Extractor(call, name, output=output, num_features=DIMS[name]) for name, output in outputs
        }
        self.extractors["means"] = ft.Extractor(lambda images: images.mean(dim=(2, 3)), "means", num_features=3)

    @property
    def seen(self):
        return self.network.seen

    def features(self, name, images):
        """(n, dim) features of images, from a pass of their own."""
        return ft.features_of_images(images, self.extractors[name], device="cpu", num_workers=0).features


def images(seed, n, high=256):
    """(n, 8, 8, 3) noise whose contrast differs between images, so that the logits do."""
    rng = np.random.default_rng(seed)
    contrast = rng.uniform(0.2, 1, (n, 1, 1, 3))
    return (rng.integers(0, high, (n, 8, 8, 3)) * contrast).astype(np.uint8)


def evaluate(networks, *sides, **options):
    """`fidfast.torch.evaluate` with small networks."""
    return ft.evaluate(*sides, extractors=networks.extractors, **{**OPTIONS, **options})
