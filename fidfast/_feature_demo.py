"""The demo on features that are part of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fidfast._metrics.uncertainty import Estimate, estimate
from fidfast._results import Result, value_with_error

__all__ = ["FeatureDemo", "demo_of_features"]

#: Origin of the features in the file.
ORIGIN = (
    "the 64 features with the largest variance of the 2,048 of the InceptionV3 of nsfwjs 4.3.0 (MIT; not the network "
    "of the FID), of emoji in the style of Google (Noto Emoji, Apache-2.0) and of Twitter (Twemoji, copyright Twitter, "
    "Inc. and other contributors, CC-BY 4.0), from the packages emoji-datasource-google and emoji-datasource-twitter "
    "16.0.0: 64 x 64 pixels on white, resized to 299 x 299, float16"
)

#: ``reference`` and ``samples``: (700, 64) float16 of different emoji in the style of Google; ``other_style``: the
#: emoji of ``samples`` in the style of Twitter. ``units``: which of the 2,048 features; ``reference_rows`` and
#: ``samples_rows``: which emoji, in the order of their file names. No row occurs twice in its style.
_FILE = "_emoji_features.npz"

#: Share of the samples in the other style in percent, and deviation of the added noise in percent of each feature's.
_SHARES, _NOISES = (10, 50, 100), (10, 30)


@dataclass(frozen=True)
class FeatureDemo(Result):
    """Result of `demo_of_features`; distances are in squared units of the features."""

    _properties: ClassVar[tuple[str, ...]] = ("origin",)

    #: Number of features.
    dim: int
    #: Numbers of samples and of reference samples.
    num_samples: tuple[int, int]
    #: By description of the samples, the distance to the reference with its error bar and bias.
    estimates: Mapping[str, Estimate]

    @property
    def origin(self) -> str:
        """Where the features are from."""
        return ORIGIN

    def __str__(self) -> str:
        samples, reference = self.num_samples
        return f"Fréchet distance of {samples} emoji to {reference} other emoji, {self.dim} features of an InceptionV3"

    def table(self) -> str:
        """One line for each set of samples: the distance without bias, its standard error and the plain distance."""
        width = max(map(len, self.estimates))
        lines = [f"{'samples':{width}}  {'without bias':>15}  {'plain':>7}"]
        for name, found in self.estimates.items():
            lines.append(f"{name:{width}}  {value_with_error(found.unbiased, found.stderr):>15}  {found.value:7.3f}")
        return "\n".join(lines)


def demo_of_features() -> FeatureDemo:
    """Show how the distance responds to changes of real features that are part of the package.

    The distance is 0 within the error bar for other emoji of the same style, and grows with the share of emoji of
    another style and with noise. Needs NumPy and SciPy only, and less than a second.

    Returns
    -------
    FeatureDemo

    Examples
    --------
    >>> found = demo_of_features()
    >>> found.num_samples
    (700, 700)
    >>> same = found.estimates["same style"]
    >>> abs(same.unbiased) < 3 * same.stderr
    True
    """
    with np.load(Path(__file__).with_name(_FILE)) as file:
        reference, samples, other = (file[name].astype(np.float32) for name in ("reference", "samples", "other_style"))
    sets = {"same style": samples}
    for share in _SHARES:
        replaced = (np.arange(len(samples)) * share % 100 < share)[:, np.newaxis]  # evenly spaced rows
        sets[f"{share} % in another style"] = np.where(replaced, other, samples)
    noise = np.random.default_rng(0).standard_normal(samples.shape, dtype=np.float32) * samples.std(axis=0)
    sets.update({f"{level} % noise": samples + level / 100 * noise for level in _NOISES})
    estimates = {name: estimate(rows, reference) for name, rows in sets.items()}
    return FeatureDemo(reference.shape[1], (len(samples), len(reference)), estimates)
