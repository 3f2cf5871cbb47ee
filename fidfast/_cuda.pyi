from typing import Any

from fidfast._core import FrechetTerms as FrechetTerms
from fidfast._core import Gaussian as Gaussian
from fidfast._core import Jackknife as Jackknife
from fidfast._core import Moments as Moments
from fidfast._core import eigenvalues as eigenvalues
from fidfast._core import frechet_distance as frechet_distance
from fidfast._core import frechet_terms as frechet_terms
from fidfast._core import require_finite as require_finite
from fidfast._core import transport_map as transport_map

__version__: str
architectures: str

def device_count() -> tuple[int, str]: ...
def describe(device: int) -> dict[str, Any]: ...
def versions() -> dict[str, Any]: ...
