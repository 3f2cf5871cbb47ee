"""The kinds of the arguments of `fidfast.compat`, by name."""

from dataclasses import replace

import numpy as np
import torch
from fuzz_kinds import BY_NAME
from fuzz_objects import identity
from fuzz_values import BOOL, DIM, TEXT, Kind, choice, integer, network, real, rows, stats

_MATRIX = BY_NAME["mu"].bad
_IMAGES = BY_NAME["source"]
_SOURCE = replace(_IMAGES, good=(*_IMAGES.good, rows, stats))
_CALLABLE = BY_NAME["generator"]
_FUNCTION = replace(_CALLABLE, good=(lambda _: identity,), optional=True).without("None")

COMPAT: dict[str, Kind] = {
    **dict.fromkeys(("mu1", "mu2"), Kind((lambda rng: rng.normal(size=DIM), lambda _: torch.zeros(DIM)), _MATRIX)),
    **dict.fromkeys(("sigma1", "sigma2"), Kind((lambda _: np.eye(DIM), lambda _: torch.eye(DIM)), _MATRIX)),
    "eps": real(1e-6, 0.1),
    "paths": Kind((), ("3", "str", "object", "list", "list of None", "None")),
    "dims": integer(2048, 2048),
    "fdir1": _SOURCE,
    "fdir2": replace(_SOURCE, slow=("None",), optional=True),  # None downloads statistics
    "gen": Kind((lambda _: None,), ("3", "str", "list", "tensor"), optional=True),
    "mode": choice("clean", "legacy_tensorflow", "legacy_pytorch"),
    "model_name": TEXT,
    "dataset_name": TEXT,
    "dataset_res": Kind((lambda _: 256, lambda _: "na"), ("2.5", "object", "list", "True", "tensor")),
    "dataset_split": TEXT,
    "num_gen": integer(2, 9, slow=("2**31 - 1", "10**400")),
    "z_dim": integer(1, 9, slow=("2**31 - 1", "10**400")),
    "custom_feat_extractor": replace(_FUNCTION, good=(lambda _: network,), slow=(*_CALLABLE.slow, "None")),
    "verbose": BOOL,
    "custom_image_tranform": _FUNCTION,
    "custom_fn_resize": _FUNCTION,
    "use_dataparallel": BOOL,
}
