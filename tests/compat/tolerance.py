"""The tolerance of a distance between features of a float32 network."""

import numpy as np

#: Relative error of features of a network with folded batch norms, measured below 1e-5, and of a resize in float32.
FEATURE_ERROR = 2e-5


def distance_error(distance, *sides):
    """How much a Fréchet distance may change with the rounding of the network of these sides.

    The distance of two Gaussians is at most the mean square of the differences of paired rows (Gelbrich, 1990), so the
    root of a distance changes by at most the root mean square rounding of each side: a part of that of its rows, whose
    square is ``|mu|^2 + tr sigma`` at most.

    Parameters
    ----------
    distance : float
    *sides : (mu, sigma)
    """
    change = sum(FEATURE_ERROR * np.sqrt(mu @ mu + np.trace(sigma)) for mu, sigma in sides)
    return 2 * np.sqrt(distance) * change + change**2
