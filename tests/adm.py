"""The five numbers of guided-diffusion's ``evaluations/evaluator.py``, as its rules, in NumPy and SciPy.

Products and sums of float16 numbers are added up in float32, as TensorFlow does by default, and then rounded.
"""

import numpy as np
from scipy.linalg import sqrtm

SPLIT_SIZE, NEIGHBOUR = 5000, 3


def inception_score(logits):
    """Of consecutive splits; the last may be smaller."""
    terms = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = terms / terms.sum(axis=1, keepdims=True)
    scores = []
    for first in range(0, len(probabilities), SPLIT_SIZE):
        part = probabilities[first : first + SPLIT_SIZE]
        divergence = (part * (np.log(part) - np.log(part.mean(axis=0)))).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return np.mean(scores)


def frechet_distance(samples, reference):
    """Of (mu, sigma) pairs, with the principal root of the product."""
    (mu1, sigma1), (mu2, sigma2) = samples, reference
    root = sqrtm(sigma1 @ sigma2)
    return np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root).real


def stats(rows):
    rows = rows.astype(np.float64)
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def _squared_distances(one, two):
    """float32, computed in float16 if all are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        for dtype in (np.float16, np.float32):
            u, v = one.astype(dtype), two.astype(dtype)
            norms = [np.square(x).sum(axis=1, dtype=np.float32).astype(dtype) for x in (u, v)]
            products = (u.astype(np.float32) @ v.astype(np.float32).T).astype(dtype)
            found = norms[0][:, None] - dtype(2) * products + norms[1]
            if np.isfinite(found).all():
                break
    return np.maximum(found, 0).astype(np.float32)


def precision_recall(samples, reference):
    radii = [np.sort(_squared_distances(rows, rows), axis=1)[:, NEIGHBOUR] for rows in (samples, reference)]
    between = _squared_distances(samples, reference)
    return (between <= radii[1]).any(axis=1).mean(), (radii[0] >= between.T).any(axis=1).mean()


def five_numbers(samples, reference, reference_stats=None):
    """By name of the metric of `evaluate`.

    Parameters
    ----------
    samples, reference : dict
        Features by name of the extractor.
    reference_stats : dict, optional
        (mu, sigma) of the reference by name of the extractor, if its file has them.
    """
    given = reference_stats or {name: stats(rows) for name, rows in reference.items()}
    precision, recall = precision_recall(samples["inception"], reference["inception"])
    return {
        "is": inception_score(samples["inception-logits"]),
        "fid": frechet_distance(stats(samples["inception"]), given["inception"]),
        "sfid": frechet_distance(stats(samples["inception-spatial"]), given["inception-spatial"]),
        "precision": precision,
        "recall": recall,
    }
