"""A drop-in replacement for torchmetrics' ``FrechetInceptionDistance`` with exact moments.

torchmetrics stores the state of a metric in tensors that it resets, copies, sends, saves and stacks by name. Here the
state is two `Moments`. The tensors ``real_state`` and ``fake_state`` are made from them when torchmetrics reads them,
and converted back when it sets them, without loss (`fidfast.torch._training.packing`). Over processes the states are
summed by `all_reduce` instead of gathered, which would send the scatters of all processes to each of them.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast._arguments import as_dense, require_bool, require_instance
from fidfast._files import require_tensors
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats import Moments
from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.conventions import LIKE
from fidfast.torch._extractors.inception import find_weights
from fidfast.torch._extractors.networks import attribute_of, evaluating, name_of
from fidfast.torch._images.pixels import pixels_of_floats
from fidfast.torch._processes.reduction import moments_of_all
from fidfast.torch._training.packing import pack, unpack

try:
    from torchmetrics import Metric
    from torchmetrics.image.fid import NoTrainInceptionV3
    from torchmetrics.utilities.distributed import gather_all_tensors
    from torchmetrics.utilities.exceptions import TorchMetricsUserError
except ImportError as error:
    raise ImportError(f"fidfast.torch.torchmetrics needs torchmetrics: pip install torchmetrics ({error})") from error

__all__ = ["FrechetInceptionDistance"]

#: Numbers of features of the network's layers.
LAYERS = (64, 192, 768, 2048)


class FrechetInceptionDistance(Metric):
    """Fréchet distance between the features of real and generated images, with the arguments of torchmetrics.

    Features and distance equal those of ``torchmetrics.image.fid.FrechetInceptionDistance``; moments and distance are
    computed by fidfast. Differences: NaN or infinite features are an error, a rejected batch leaves the state unchanged
    in `forward` too, and real images that are kept by a reset are counted once.

    Parameters
    ----------
    feature : {2048, 192, 768, 64} or torch.nn.Module, default 2048
        A layer of the Inception network of 2015-12-05, or a network from images to (n, dim). If the network has no
        ``num_features``, it is called once with an image of zeros.
    reset_real_features : bool, default True
        Whether `reset` removes the real images too.
    normalize : bool, default False
        Whether images are floats from 0 to 1 instead of uint8. A custom network receives images unchanged.
    input_img_size : (int, int, int), default (3, 299, 299)
        Shape of the image of zeros.
    feature_extractor_weights_path : path, optional
        Weights of the network. By default torch's cache is searched, then the file is downloaded.
    antialias : bool, default True
        Whether images are resized with antialiasing. False: the resize of TensorFlow 1.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the moments, as in `fidfast.Moments`. float64 features (``set_dtype(torch.float64)``) are always
        multiplied in float64.
    **kwargs
        As in ``torchmetrics.Metric``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, with the messages of torchmetrics.
    FileNotFoundError
        If the weights are not found and cannot be downloaded; the message says what to download and where to put it.
    ImportError
        If torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the weights are not those of 2015-12-05.
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False
    plot_lower_bound: float = 0.0
    feature_network: str = "inception"  # attribute that torchmetrics' FeatureShare replaces

    _is_synced: bool
    _update_count: int

    def __init__(
        self,
        feature: int | torch.nn.Module = 2048,
        reset_real_features: bool = True,
        normalize: bool = False,
        input_img_size: tuple[int, int, int] = (3, 299, 299),
        feature_extractor_weights_path: str | None = None,
        antialias: bool = True,
        *,
        precision: str = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in (("normalize", normalize), ("reset_real_features", reset_real_features)):
            if not isinstance(value, bool):
                raise ValueError(f"Argument `{argument}` expected to be a bool")
        self.normalize = normalize
        self.reset_real_features = reset_real_features
        self.used_custom_model = isinstance(feature, torch.nn.Module)
        if isinstance(feature, torch.nn.Module):
            self.inception = feature
            dim, name = _num_features(feature, normalize, input_img_size), name_of(feature).full
        elif isinstance(feature, int):
            dim = feature
            self.inception, name = _inception(feature, feature_extractor_weights_path, antialias)
        else:
            raise TypeError(f"Got unknown input to argument `feature`: {type(feature).__name__}")
        self.orig_dtype = torch.float32
        self._real, self._fake = (Moments(dim, precision=precision, extractor=name) for _ in range(2))
        for state in ("real_state", "fake_state"):
            self.add_state(state, torch.empty(0, dtype=torch.float64), dist_reduce_fx=None)

    # The state ------------------------------------------------------------------------------------------------------

    @property
    def real_moments(self) -> Moments:
        """Moments of the real images that this process has seen. Can be set to moments computed before."""
        return self._real

    @real_moments.setter
    def real_moments(self, moments: Moments) -> None:
        self._real = self._checked_copy("real_moments", moments)

    @property
    def fake_moments(self) -> Moments:
        """Moments of the generated images that this process has seen. Can be set."""
        return self._fake

    @fake_moments.setter
    def fake_moments(self, moments: Moments) -> None:
        self._fake = self._checked_copy("fake_moments", moments)

    def _checked_copy(self, name: str, moments: Moments) -> Moments:
        if require_instance(name, moments, Moments).dim != self.num_features:
            raise ValueError(f"{name} has dim {moments.dim}, but this metric has {self.num_features} features")
        self._computed = None
        return copy.copy(moments)

    @property
    def num_features(self) -> int:
        """Number of features per image."""
        return self._real.dim

    @property
    def real_state(self) -> torch.Tensor:
        """`real_moments` as a tensor for torchmetrics; always in host memory."""
        return pack(self._real)

    @real_state.setter
    def real_state(self, state: torch.Tensor) -> None:
        self._real = _unpack_like(self._real, state)

    @property
    def fake_state(self) -> torch.Tensor:
        """`fake_moments` as a tensor for torchmetrics; always in host memory."""
        return pack(self._fake)

    @fake_state.setter
    def fake_state(self, state: torch.Tensor) -> None:
        self._fake = _unpack_like(self._fake, state)

    # The interface of torchmetrics ------------------------------------------------------------------------------------

    def update(self, imgs: torch.Tensor, real: bool) -> None:
        """Add a batch of images.

        Parameters
        ----------
        imgs : (n, 3, height, width) tensor
            uint8, or floats from 0 to 1 with ``normalize=True``; for a custom network any input.
        real : bool
            Whether the images are real (True) or generated (False).

        Raises
        ------
        TypeError, ValueError
            If the images or their features are invalid. The state stays unchanged.
        """
        (self._real if require_bool("real", real) else self._fake).update(self._features(imgs))

    def compute(self) -> torch.Tensor:
        """Distance of all images since the last reset, of all processes.

        Returns
        -------
        scalar tensor
            Of the dtype of the features.

        Raises
        ------
        RuntimeError
            If there are fewer than 2 real or generated images, or another process has died.
        ValueError
            If the distance is beyond the range of that dtype.
        """
        if self._real.num_samples < 2 or self._fake.num_samples < 2:
            raise RuntimeError(
                "More than one sample is required for both the real and fake distributed to compute FID, got "
                f"{self._real.num_samples} real and {self._fake.num_samples} fake samples"
            )
        distance = frechet_distance(self._fake.stats(), self._real.stats())
        result = torch.tensor(distance, dtype=torch.float64).to(self.orig_dtype)
        # A distance below the least number of float16 may be rounding.
        vanished = result == 0 < distance and self.orig_dtype in (torch.float32, torch.bfloat16)
        if vanished or not result.isfinite():
            dtype = str(self.orig_dtype).removeprefix("torch.")
            raise ValueError(
                f"the distance {distance:.6g} is beyond the range of {dtype}: call set_dtype(torch.float64)"
            )
        return result.to(self.device)

    def forward(self, imgs: torch.Tensor, real: bool) -> torch.Tensor:
        """Add a batch of images, and return the distance of this batch alone.

        It needs ``reset_real_features=False``, and is then the distance of the batch to all real images.
        """
        real = require_bool("real", real)
        if self._is_synced:
            raise TorchMetricsUserError(
                "The Metric shouldn't be synced when performing ``forward``. HINT: Did you forget to call ``unsync`` ?."
            )
        with torch.no_grad():
            features = self._features(imgs)
        real_moments, fake_moments = self._real, self._fake
        batch, empty = (
            Moments(self.num_features, precision=real_moments.precision, extractor=real_moments.extractor)
            for _ in range(2)
        )
        batch.update(features)
        self._fake = empty if real else batch
        if self.reset_real_features:
            self._real = batch if real else empty
        self._to_sync, self._computed, self._update_count = self.dist_sync_on_step, None, self._update_count + 1
        try:
            value = self.compute()
        finally:
            self._real, self._fake = real_moments, fake_moments
            self._to_sync, self._computed, self._is_synced, self._cache = self.sync_on_compute, None, False, None
        (real_moments if real else fake_moments).update(features)
        self._forward_cache = value
        return value

    def reset(self) -> None:
        """Remove the generated images, and with ``reset_real_features=True`` the real ones."""
        real_moments = self._real
        super().reset()
        if not self.reset_real_features:
            self._real = real_moments

    def set_dtype(self, dst_type: str | torch.dtype) -> FrechetInceptionDistance:
        """Set the arithmetic of the network and the dtype of the result. Moments are always float64."""
        super().set_dtype(dst_type)
        if isinstance(self.inception, NoTrainInceptionV3):
            self.inception._dtype = dst_type
        return self

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot one or several values, as in torchmetrics; returns figure and axes."""
        return self._plot(val, ax)

    def _features(self, imgs: torch.Tensor) -> torch.Tensor:
        """Features (n, dim) in host memory."""
        imgs = as_dense(require_instance("imgs", imgs, torch.Tensor), "imgs")
        if self.normalize and not self.used_custom_model:
            imgs = pixels_of_floats(imgs).byte()
        features = _outputs(self.inception, imgs)
        self.orig_dtype = features.dtype
        features = features.detach().cpu()
        features = features if features.is_floating_point() else features.double()
        return features[None] if features.ndim == 1 else features

    def _sync_dist(self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any = None) -> None:
        group = process_group or self.process_group
        reduced = []
        for mine in (self._real, self._fake):
            if dist_sync_fn is gather_all_tensors:
                moments = moments_of_all(mine, group)
            else:  # a gather function of the user
                moments = copy.copy(mine)
                moments.reset()
                for state in dist_sync_fn(pack(mine).to(self.device), group=group):
                    moments.merge(_unpack_like(mine, state))
            reduced.append(moments)
        self._real, self._fake = reduced  # if one raises, both stay unchanged

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        incoming = []
        for state, mine in (("real_state", self._real), ("fake_state", self._fake)):
            if state not in incoming_state:
                raise ValueError(f"Expected state variable {state} to be present in incoming state {incoming_state}")
            incoming.append(_unpack_like(mine, incoming_state[state]))
        self._real.merge(incoming[0])
        self._fake.merge(incoming[1])

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> FrechetInceptionDistance:
        # The state stays in host memory and in float64.
        super()._apply(fn, exclude_state=(*exclude_state, *self._defaults))
        return self

    def __hash__(self) -> int:
        # torch calls it whenever it lists modules; that of torchmetrics would pack the state into tensors.
        return hash((type(self).__name__, id(self)))

    # Read-only attributes, for code that reads the state of torchmetrics' class ---------------------------------------

    def _raw_sum(self, moments: Moments, index: int) -> torch.Tensor:
        return torch.as_tensor(_raw_sums(moments)[index], device=self.device)

    real_features_num_samples = property(lambda self: self._raw_sum(self._real, 0), doc="Number of real images.")
    real_features_sum = property(lambda self: self._raw_sum(self._real, 1), doc="(dim,) sum of their features.")
    real_features_cov_sum = property(lambda self: self._raw_sum(self._real, 2), doc="(dim, dim) sum of their products.")
    fake_features_num_samples = property(lambda self: self._raw_sum(self._fake, 0), doc="Number of generated images.")
    fake_features_sum = property(lambda self: self._raw_sum(self._fake, 1), doc="(dim,) sum of their features.")
    fake_features_cov_sum = property(lambda self: self._raw_sum(self._fake, 2), doc="(dim, dim) sum of their products.")


def _unpack_like(moments: Moments, state: torch.Tensor) -> Moments:
    return unpack(state, moments.dim, precision=moments.precision, extractor=moments.extractor)


def _raw_sums(moments: Moments) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Number of rows, their sum, and the sum of their products ``x x^T``."""
    state, dim = moments.merged_blocks().state(), moments.dim
    rows = np.concatenate([state["0/narrow_rows"].astype(np.float64), state["0/wide_rows"]])
    total, products = rows.sum(axis=0), rows.T @ rows
    if (count := int(state["0/count"])) > 0:
        mean = state["0/mean"]
        total += count * mean
        products += state["0/scatter"] + count * np.outer(mean, mean)
    return moments.num_samples, total, products.reshape(dim, dim)


def _outputs(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Outputs in evaluation mode and in the network's own arithmetic; the mode is restored."""
    with full_float32(device=images.device), evaluating(network):
        outputs: torch.Tensor = network(images)
        return outputs


def _num_features(network: torch.nn.Module, normalize: bool, shape: tuple[int, int, int]) -> int:
    """The network's ``num_features``, else the number of columns for an image of zeros."""
    num_features: Any = attribute_of(network, "num_features")
    if num_features is None:
        dtype = torch.float32 if normalize else torch.uint8
        with torch.no_grad():
            return _outputs(network, torch.zeros(1, *shape, dtype=dtype, device="cpu")).shape[-1]
    if isinstance(num_features, torch.Tensor):
        num_features = int(num_features.item())
    if not isinstance(num_features, int):
        raise TypeError("Expected `self.inception.num_features` to be of type int or Tensor.")
    return num_features


def _inception(layer: int, weights: str | None, antialias: bool) -> tuple[torch.nn.Module, str]:
    """The network up to a layer, and its name including the resize."""
    if layer not in LAYERS:
        raise ValueError(f"Integer input to argument `feature` must be one of {LAYERS}, but got {layer}.")
    if importlib.util.find_spec("torch_fidelity") is None:  # checked before the weights are downloaded
        raise ModuleNotFoundError(f"feature={layer} needs torch-fidelity: pip install torch-fidelity")
    path, name = find_weights(weights)
    require_tensors(path)
    with full_float32(), ordinary_tensors():
        network = NoTrainInceptionV3("inception-v3-compat", [str(layer)], str(path), antialias)
    resize = LIKE["torchmetrics"].resize if antialias else LIKE["torch-fidelity"].resize
    return network, f"{name if layer == 2048 else f'{name}-layer-{layer}'}/{resize}-299"
