"""Features whose squares exceed the largest float64 are an error that says so."""

import numpy as np
import pytest

import fidfast

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((60, 3)), rng.standard_normal((50, 3))
METRICS = [
    "fid",
    "frechet_distance",
    "frechet_terms",
    "estimate",
    "influence",
    "fid_infinity",
    "report",
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("scales", "name"), [((1e200, 1e200), "samples"), ((1e200, 1), "samples"), ((1, 1e200), "reference")]
)
def test_squares_that_overflow(metric, scales, name):
    argument = {"samples": "features_a", "reference": "features_b"}[name] if metric == "fid" else name
    message = f"^{argument}: the squares of the features leave the range of float64.*magnitude "
    if metric == "fid_infinity":  # reads the reference first
        message = message.replace(f"{name}: ", "(samples: |reference: )?")
    with pytest.raises(ValueError, match=message):
        getattr(fidfast, metric)(X * scales[0], Y * scales[1])


def test_large_squares_that_do_not_overflow():
    # The distance is about 1e300, and all intermediate results have relative errors of a few roundings.
    assert fidfast.fid(X * 1e150, Y * 1e150) == pytest.approx(fidfast.fid(X, Y) * 1e300, rel=1e-9)
