"""Moments and metrics of Ray datasets, which may be larger than one machine.

>>> import fidfast.ray, ray.data  # doctest: +SKIP
>>> moments = fidfast.ray.moments(ray.data.read_parquet("features/"), column="features")  # doctest: +SKIP
"""

try:
    import ray.data as _data  # noqa: F401
except ImportError as error:
    raise ImportError("fidfast.ray needs Ray Data: pip install 'fidfast[ray]'") from error

from fidfast.ray._distances import fid, moments
from fidfast.ray._estimates import estimate
from fidfast.ray._evaluation import evaluate
from fidfast.ray._rows import kid_subsets

__all__ = ["estimate", "evaluate", "fid", "kid_subsets", "moments"]

for _name in __all__:
    globals()[_name].__module__ = __name__
