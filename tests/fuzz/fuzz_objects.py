"""Small objects of every public class."""

from collections.abc import Callable

import numpy as np
import torch
from fuzz_values import DIM, N, class_moments, counts, generator, images, moments, network, rows, score, stats

import fidfast
import fidfast.torch as ft
from fidfast._images import open_images
from fidfast.torch._demo import CORRUPTIONS


def identity(output):
    return output


class Pooled(torch.nn.Module):
    num_features = DIM

    def forward(self, batch):
        if batch.ndim != 4 or batch.shape[1] != DIM:
            raise ValueError(f"images must have the shape (n, {DIM}, height, width)")
        return batch.float().mean(dim=(2, 3))


class Sampler(torch.nn.Module):
    def forward(self, n):
        return generator(n)


def metric(_=None):
    made = ft.FrechetDistance(network, stats(np.random.default_rng(0)), blocks=10)
    made.update(torch.rand(30, 3, 4, 4))
    return made


def torchmetric(_=None):
    from fidfast.torch.torchmetrics import FrechetInceptionDistance

    made = FrechetInceptionDistance(Pooled(), normalize=True)
    for real_images in (True, False):
        made.update(torch.rand(4, 3, 4, 4), real_images)
    return made


def ignite_fid(_=None):
    from fidfast.torch.ignite import FID

    made = FID(DIM, Pooled())
    made.update((torch.rand(4, 3, 4, 4), torch.rand(4, 3, 4, 4)))
    return made


def ignite_distance(_=None):
    from fidfast.torch.ignite import FrechetDistance

    made = FrechetDistance(network, stats(np.random.default_rng(0)))
    made.update(torch.rand(4, 3, 4, 4))
    return made


def ignite_handler(_=None):
    from fidfast.torch.ignite import FrechetDistanceHandler

    return FrechetDistanceHandler(metric(), Sampler(), lambda model, n: model(n), 4, every=1, batch_size=2)


def callback(_=None):
    from fidfast.torch.lightning import FrechetDistanceCallback

    return FrechetDistanceCallback(metric(), lambda module, n: generator(n), 4, every_n_steps=1)


def growing(rng):
    return ft.GrowingSample(DIM, DIM, N, [N], [fidfast.estimate(rows(rng), rows(rng))])


def demo_result(rng):
    return ft.DemoResult(N, "name", 1.0, {name: [1.0, 2.0, 3.0, 4.0] for name in CORRUPTIONS}, growing(rng))


def evaluation(rng):
    return ft.evaluate(rows(rng), rows(rng), metrics="fid")


def image_features(_=None):
    return ft.features_of_images(images(np.random.default_rng(0)), network, num_workers=0)


#: An object of each class whose methods are called.
INSTANCES: dict[str, Callable] = {
    "Moments": lambda rng: moments(rng, int(rng.integers(1, 4))),
    "ClassMoments": class_moments,
    "GaussianStats": stats,
    "NgramCounts": counts,
    "InceptionScore": score,
    "CachedMoments": lambda _: fidfast.CachedMoments("file", 1, 1.0, None, None, None),
    "ClassDistances": lambda rng: fidfast.class_distances(class_moments(rng), class_moments(rng)),
    "Comparison": lambda rng: fidfast.compare(rows(rng), rows(rng), rows(rng)),
    "Environment": lambda _: fidfast.environment(),
    "DensityCoverage": lambda rng: fidfast.density_coverage(rows(rng), rows(rng)),
    "Evaluation": evaluation,
    "Estimate": lambda rng: fidfast.estimate(rows(rng), rows(rng)),
    "Extrapolation": lambda rng: fidfast.fid_infinity(rows(rng), rows(rng), num_points=2),
    "FeatureDemo": lambda _: fidfast.demo_of_features(),
    "FileInfo": lambda _: fidfast.FileInfo("file", "features", {}),
    "FrechetTerms": lambda rng: fidfast.frechet_terms(rows(rng), rows(rng)),
    "HarmfulSample": lambda rng: fidfast.report(rows(rng), rows(rng)).most_harmful[0],
    "ImageCache": lambda _: fidfast.image_cache(),
    "InceptionScoreResult": lambda rng: score(rng).compute(),
    "SlicedDistance": lambda rng: fidfast.mind(rows(rng), rows(rng), num_projections=2),
    "VendiScore": lambda rng: fidfast.vendi(rows(rng)),
    "KernelDistance": lambda rng: fidfast.kid(rows(rng), rows(rng)),
    "ManifoldMetrics": lambda rng: fidfast.manifold_metrics(rows(rng), rows(rng)),
    "PrecisionRecall": lambda rng: fidfast.precision_recall(rows(rng), rows(rng)),
    "ReferenceSample": lambda _: fidfast.ReferenceSample(0, "name", 1.0),
    "Report": lambda rng: fidfast.report(rows(rng), rows(rng), most_harmful=2),
    "SourceMoments": lambda rng: fidfast.moments_of_features(rows(rng)),
    "SourcePart": lambda _: fidfast.SourcePart(1, 2, N, "source"),
    "SubsetKernelDistance": lambda rng: fidfast.kid_subsets(rows(rng), rows(rng), subsets=2, subset_size=4),
    "Trimmed": lambda _: fidfast.Trimmed(3, 1.0),
    "DemoResult": demo_result,
    "GrowingSample": growing,
    "Extractor": lambda _: ft.as_extractor(network),
    "FeatureQueue": lambda _: ft.FeatureQueue(DIM, N),
    "MovingMoments": lambda _: ft.MovingMoments(DIM, 0.5),
    "FrechetDistance": metric,
    "FrechetLoss": lambda rng: ft.FrechetLoss(stats(rng)),
    "ImageFeatures": image_features,
    "ImageMoments": lambda rng: ft.moments_of_images(images(rng), network, num_workers=0),
    "ImageOptions": lambda _: ft.ImageOptions(),
    "PretrainedNetwork": lambda _: ft.NETWORKS["vgg16"],
    "Images": lambda rng: open_images(images(rng)),
    "FrechetInceptionDistance": torchmetric,
    "FrechetDistanceCallback": callback,
    "FID": ignite_fid,
    "ignite.FrechetDistance": ignite_distance,
    "FrechetDistanceHandler": ignite_handler,
}
