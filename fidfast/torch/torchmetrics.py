"""torchmetrics' ``FrechetInceptionDistance`` with exact moments: one import line changes.

torchmetrics keeps a metric's state in tensors that it resets, copies, sends, stores and stacks by name. Here the state
is two `Moments`, and those tensors, ``real_state`` and ``fake_state``, are made of them when torchmetrics asks, and
become them when it sets one: there and back to the same bits (`fidfast.torch.packing`). Over processes they are not
gathered, which would bring every process the scatters of all; they are summed, by `all_reduce`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast._metrics.frechet import frechet_distance
from fidfast._stats.moments import Moments
from fidfast.torch._extractors.inception import require_plain_weights, weights_and_name
from fidfast.torch._extractors.named import LIKE
from fidfast.torch._training.distributed import all_reduce
from fidfast.torch._training.packing import packed, unpacked

try:
    from torchmetrics import Metric
    from torchmetrics.image.fid import NoTrainInceptionV3
    from torchmetrics.utilities.distributed import gather_all_tensors
    from torchmetrics.utilities.exceptions import TorchMetricsUserError
except ImportError as error:
    raise ImportError(f"fidfast.torch.torchmetrics needs torchmetrics: pip install torchmetrics ({error})") from error

__all__ = ["FrechetInceptionDistance"]

#: The network's layers, by the number of their features.
LAYERS = (64, 192, 768, 2048)


class FrechetInceptionDistance(Metric):
    """Fréchet distance between the features of real and of generated images, with torchmetrics' arguments.

    Features, and so the number, are those of ``torchmetrics.image.fid.FrechetInceptionDistance``; moments and distance
    are fidfast's. Unlike there, features that are NaN or infinite are an error, a batch that is refused leaves the
    state as it was, also in `forward`, and real images that outlive a reset are counted once.

    Parameters
    ----------
    feature : {2048, 192, 768, 64} or torch.nn.Module, default 2048
        A layer of the Inception network of 2015-12-05, or a network of one's own from images to (n, dim). Where that
        has no ``num_features``, it is shown an image of zeros.
    reset_real_features : bool, default True
        Whether `reset` forgets the real images too.
    normalize : bool, default False
        Whether images are floats from 0 to 1, and not uint8. A network of one's own gets them as they come.
    input_img_size : (int, int, int), default (3, 299, 299)
        Shape of the image of zeros.
    feature_extractor_weights_path : path, optional
        The network's weights; looked for in torch's cache, then downloaded, where not given.
    antialias : bool, default True
        Whether images are resized with antialiasing, and not as TensorFlow 1 did.
    moments_precision : {"float32", "float64"}, default "float32"
        As `precision` of `fidfast.Moments`. Features of float64 (``set_dtype(torch.float64)``) are multiplied in
        float64 in any case.
    **kwargs
        As of ``torchmetrics.Metric``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable, in torchmetrics' words.
    FileNotFoundError
        If the weights are not there and cannot be downloaded; the message says what to fetch, and where to put it.
    ImportError
        If torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the weights are others than those of 2015-12-05.
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False
    plot_lower_bound: float = 0.0
    feature_network: str = "inception"  # which attribute torchmetrics' FeatureShare may replace

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
        moments_precision: str = "float32",
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
            dim, name = _num_features(feature, normalize, input_img_size), getattr(feature, "name", None)
        elif isinstance(feature, int):
            dim = feature
            self.inception, name = _inception(feature, feature_extractor_weights_path, antialias)
        else:
            raise TypeError(f"Got unknown input to argument `feature`: {type(feature).__name__}")
        self.orig_dtype = torch.float32
        self._real, self._fake = (Moments(dim, moments_precision, name) for _ in range(2))
        for state in ("real_state", "fake_state"):
            self.add_state(state, torch.empty(0, dtype=torch.float64), dist_reduce_fx=None)

    # The state ------------------------------------------------------------------------------------------------------

    @property
    def real_moments(self) -> Moments:
        """What this process has seen of real images. May be set, to moments that were computed before."""
        return self._real

    @real_moments.setter
    def real_moments(self, moments: Moments) -> None:
        self._real = self._fitting(moments)

    @property
    def fake_moments(self) -> Moments:
        """What this process has seen of generated images. May be set."""
        return self._fake

    @fake_moments.setter
    def fake_moments(self, moments: Moments) -> None:
        self._fake = self._fitting(moments)

    def _fitting(self, moments: Moments) -> Moments:
        if moments.dim != self.num_features:
            raise ValueError(f"the moments have dim {moments.dim}, but this metric has {self.num_features} features")
        self._computed = None
        return moments.__copy__()

    @property
    def num_features(self) -> int:
        """Number of features of an image."""
        return self._real.dim

    @property
    def real_state(self) -> torch.Tensor:
        """`real_moments` as the tensor that torchmetrics knows; always in the host's memory."""
        return packed(self._real)

    @real_state.setter
    def real_state(self, state: torch.Tensor) -> None:
        self._real = unpacked(state, self._real.dim, self._real.precision, self._real.extractor)

    @property
    def fake_state(self) -> torch.Tensor:
        """`fake_moments` as the tensor that torchmetrics knows; always in the host's memory."""
        return packed(self._fake)

    @fake_state.setter
    def fake_state(self, state: torch.Tensor) -> None:
        self._fake = unpacked(state, self._fake.dim, self._fake.precision, self._fake.extractor)

    # torchmetrics' verbs --------------------------------------------------------------------------------------------

    def update(self, imgs: torch.Tensor, real: bool) -> None:
        """Add a batch of images.

        Parameters
        ----------
        imgs : (n, 3, height, width) tensor
            uint8, or floats from 0 to 1 with ``normalize=True``; of any kind where the network is one's own.
        real : bool
            Whether they are real, and not generated.

        Raises
        ------
        TypeError, ValueError
            If the images or their features do not fit. The state stays as it was.
        """
        (self._real if real else self._fake).update(self._features(imgs))

    def compute(self) -> torch.Tensor:
        """The distance of all that was seen since the last reset, by all processes; of the features' dtype.

        Raises
        ------
        RuntimeError
            If there are fewer than 2 images of a kind, or another process has died.
        """
        if self._real.num_samples < 2 or self._fake.num_samples < 2:
            raise RuntimeError(
                "More than one sample is required for both the real and fake distributed to compute FID, got "
                f"{self._real.num_samples} real and {self._fake.num_samples} fake ones"
            )
        distance = frechet_distance(self._real.stats(), self._fake.stats())
        return torch.tensor(distance, dtype=torch.float64).to(self.orig_dtype).to(self.device)

    def forward(self, imgs: torch.Tensor, real: bool) -> torch.Tensor:
        """Add a batch of images, and return the distance of that batch alone.

        That has both kinds only where ``reset_real_features=False``: it is then the distance to all real images.
        """
        if self._is_synced:
            raise TorchMetricsUserError(
                "The Metric shouldn't be synced when performing ``forward``. HINT: Did you forget to call ``unsync`` ?."
            )
        with torch.no_grad():
            features = self._features(imgs)
        whole = self._real, self._fake
        batch, nothing = (Moments(self.num_features, whole[0].precision, whole[0].extractor) for _ in range(2))
        batch.update(features)
        self._fake = nothing if real else batch
        if self.reset_real_features:
            self._real = batch if real else nothing
        self._to_sync, self._computed, self._update_count = self.dist_sync_on_step, None, self._update_count + 1
        try:
            value = self.compute()
        finally:
            self._real, self._fake = whole
            self._to_sync, self._computed, self._is_synced, self._cache = self.sync_on_compute, None, False, None
        whole[0 if real else 1].update(features)
        self._forward_cache = value
        return value

    def reset(self) -> None:
        """Forget the generated images, and the real ones with ``reset_real_features=True``."""
        kept = self._real
        super().reset()
        if not self.reset_real_features:
            self._real = kept

    def set_dtype(self, dst_type: str | torch.dtype) -> FrechetInceptionDistance:
        """The arithmetic of the network, and with it the dtype of the result; moments are float64 in any case."""
        super().set_dtype(dst_type)
        if isinstance(self.inception, NoTrainInceptionV3):
            self.inception._dtype = dst_type
        return self

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot one value or several, as torchmetrics does: figure and axes."""
        return self._plot(val, ax)

    def _features(self, imgs: torch.Tensor) -> torch.Tensor:
        """(n, dim), in the host's memory."""
        if self.normalize and not self.used_custom_model:
            imgs = (imgs * 255).byte()
        features = self.inception(imgs)
        self.orig_dtype = features.dtype
        features = features.detach().cpu()
        features = features if features.is_floating_point() else features.double()
        return features[None] if features.ndim == 1 else features

    def _sync_dist(self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any = None) -> None:
        group = process_group or self.process_group
        sides = []
        for mine in (self._real, self._fake):
            whole = mine.__copy__()
            if dist_sync_fn is gather_all_tensors:
                all_reduce(whole, group)
            else:  # the user's own way to bring together what all processes have
                whole.reset()
                for part in dist_sync_fn(packed(mine).to(self.device), group=group):
                    whole.merge(unpacked(part, mine.dim, mine.precision, mine.extractor))
            sides.append(whole)
        self._real, self._fake = sides  # both or neither

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        incoming = []
        for state, mine in (("real_state", self._real), ("fake_state", self._fake)):
            if state not in incoming_state:
                raise ValueError(f"Expected state variable {state} to be present in incoming state {incoming_state}")
            incoming.append(unpacked(incoming_state[state], mine.dim, mine.precision, mine.extractor))
        self._real.merge(incoming[0])
        self._fake.merge(incoming[1])

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> FrechetInceptionDistance:
        # The state stays in the host's memory, and in float64.
        super()._apply(fn, exclude_state=(*exclude_state, *self._defaults))
        return self

    def __hash__(self) -> int:
        # torch asks for it whenever it lists modules; torchmetrics' own would make tensors of the state.
        return hash((type(self).__name__, id(self)))

    # The raw sums that torchmetrics' class has for a state, for those who read them ---------------------------------

    def _raw(self, moments: Moments, which: int) -> torch.Tensor:
        return torch.as_tensor(_raw_sums(moments)[which], device=self.device)

    real_features_num_samples = property(lambda self: self._raw(self._real, 0), doc="Number of real images.")
    real_features_sum = property(lambda self: self._raw(self._real, 1), doc="(dim,) sum of their features.")
    real_features_cov_sum = property(lambda self: self._raw(self._real, 2), doc="(dim, dim) sum of their products.")
    fake_features_num_samples = property(lambda self: self._raw(self._fake, 0), doc="Number of generated images.")
    fake_features_sum = property(lambda self: self._raw(self._fake, 1), doc="(dim,) sum of their features.")
    fake_features_cov_sum = property(lambda self: self._raw(self._fake, 2), doc="(dim, dim) sum of their products.")


def _raw_sums(moments: Moments) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Number of rows, their sum and that of their products ``x x^T``."""
    state, dim = moments._whole().state(), moments.dim
    rows = np.concatenate([state["narrow_rows"].astype(np.float64), state["wide_rows"]])
    total, products = rows.sum(axis=0), rows.T @ rows
    if state["count"] > 0:
        total += state["count"] * state["mean"]
        products += state["scatter"] + state["count"] * np.outer(state["mean"], state["mean"])
    return moments.num_samples, total, products.reshape(dim, dim)


def _num_features(network: torch.nn.Module, normalize: bool, shape: tuple[int, int, int]) -> int:
    """What the network says, or what it does with an image of zeros."""
    known: Any = getattr(network, "num_features", None)
    if known is None:
        with torch.no_grad():
            return network(torch.zeros(1, *shape, dtype=torch.float32 if normalize else torch.uint8)).shape[-1]
    if isinstance(known, torch.Tensor):
        known = int(known.item())
    if not isinstance(known, int):
        raise TypeError("Expected `self.inception.num_features` to be of type int or Tensor.")
    return known


def _inception(layer: int, weights: str | None, antialias: bool) -> tuple[torch.nn.Module, str]:
    """The network up to a layer, and its name with the resize."""
    if layer not in LAYERS:
        raise ValueError(f"Integer input to argument `feature` must be one of {LAYERS}, but got {layer}.")
    if importlib.util.find_spec("torch_fidelity") is None:  # before anything is downloaded
        raise ModuleNotFoundError(f"feature={layer} needs torch-fidelity: pip install torch-fidelity")
    path, name = weights_and_name(weights, stacklevel=4)
    require_plain_weights(path)
    network = NoTrainInceptionV3("inception-v3-compat", [str(layer)], str(path), antialias)
    resize = LIKE["torchmetrics"].resize if antialias else LIKE["torch-fidelity"].resize
    return network, f"{name if layer == 2048 else f'{name}-layer-{layer}'}/{resize}-299"
