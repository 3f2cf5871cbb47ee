"""Statistics, features and images among the entries of a file, found by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidfast._files.records import Entry, Features, Stats, Tree
from fidfast._files.rows import rows_of

__all__ = [
    "COUNT_KEYS",
    "COVARIANCES",
    "FEATURE_KEYS",
    "IMAGE_KEYS",
    "MEANS",
    "Item",
    "features_item",
    "is_features",
    "is_images",
    "items_of",
    "names_mean",
    "pair_item",
    "text_of",
]

#: Names that tools use for features in a file of several arrays, besides ``arr_0``, ``arr_1``, ... of ``numpy.savez``.
FEATURE_KEYS = ("features", "feats", "activations", "all_features", "embeddings", "reps", "pool_3")

#: Names of images; ADM writes ``arr_0``.
IMAGE_KEYS = ("arr_0", "images", "samples")

#: Names of the number of samples.
COUNT_KEYS = ("num_samples", "num_images", "num_items", "n_samples", "n", "count")
#: Largest number of samples: integers up to here are exact in float64.
_MAX_COUNT = 2**53
#: Names of the mean and of the covariance, in the order of precedence.
MEANS = ("mu", "mean", "mus", "means")
COVARIANCES = ("sigma", "cov", "covariance", "sigmas", "covs")
_POSITIONAL = re.compile(r"arr_\d+")
# A pair has equal names but for one word each: mu_s and sigma_s, real_mean and real_cov, m1 and s1.
_ROLE = re.compile(
    rf"(?P<before>(?!raw_)(?:.*[_./-])?)(?:(?P<mean>{'|'.join(MEANS)})|(?:{'|'.join(COVARIANCES)}))"
    r"(?P<after>(?:[_.-].*|\d*))|(?:(?P<m>m)|s)(?P<number>\d*)",
    re.IGNORECASE,
)

#: Labels of a pair that are names of networks, unlike ``train`` or ``real``.
_NETWORK = re.compile("inception|dino|clip|swav|vgg|resnet|convnext|efficientnet|mae|data2vec|vit|siglip")


@dataclass(frozen=True)
class Item:
    """Statistics, features or images among the entries of a file."""

    #: What ``key=`` selects them with; "" for a single array.
    key: str
    #: "statistics", "features" or "images".
    what: str
    #: The entry of the features or images, or of the mean.
    entry: Entry
    #: Reads the record: `Stats` or `Features`.
    read: Callable[[], Any]
    #: Name of the extractor that the key implies.
    implied: str | None = None
    #: Reads the stored name of the extractor.
    stored: Callable[[], str | None] = lambda: None
    #: Whether this is the first choice among several of its kind.
    is_main: bool = False

    @property
    def extractor(self) -> str | None:
        """Name of the extractor, or None if it is unknown. Raises ValueError if the stored name is not text."""
        return self.stored() or self.implied

    def __str__(self) -> str:
        return repr(self.key) if self.what == "statistics" else f"{self.key!r} {self.entry}"


def items_of(levels: tuple[Tree, ...], prefix: str = "") -> Iterator[Item]:
    """All items of a dictionary, and of those inside.

    Parameters
    ----------
    levels : tuple of Tree
        The dictionary, and those around it from the innermost.
    prefix : str
        Key of the dictionary and "/"; empty for the outermost.
    """
    tree = levels[0]
    entries = {key: entry for key, entry in tree.items() if isinstance(entry, Entry)}
    yield from _items_of_sums(levels, prefix)
    if _is_positional_pair(entries):
        yield _positional_pair(entries, levels, prefix)
        return
    yield from _pairs(entries, levels, prefix)
    for key, entry in entries.items():
        positional = _POSITIONAL.fullmatch(key) is not None
        if is_features(entry) and (positional or not key):
            yield features_item(prefix + key, entry, levels)
        elif is_images(entry) and not prefix and (positional or not key or key in IMAGE_KEYS):
            yield Item(key, "images", entry, entry.load)
        elif key in FEATURE_KEYS and entry.shape not in ((), (0,)):
            yield features_item(prefix + key, entry, levels)
        elif is_images(entry) and not prefix and entry.dtype in ("uint8", "bool"):
            yield Item(key, "images", entry, entry.load)
    for key, inner in tree.items():
        if isinstance(inner, Mapping):
            yield from items_of((inner, *levels), f"{prefix}{key}/")


# Statistics ---------------------------------------------------------------------------------------------------------


def _pairs(entries: Mapping[str, Entry], levels: tuple[Tree, ...], prefix: str) -> Iterator[Item]:
    """The pairs of mean and covariance with matching shapes; without these and without features, all pairs."""
    means: dict[str, str] = {}
    covariances: dict[str, str] = {}
    for key in sorted(entries, key=_rank):
        role = _ROLE.fullmatch(key)
        if role is not None:
            stem = f"{role['before'] or ''}*{role['after'] or role['number'] or ''}"
            (means if role["mean"] or role["m"] else covariances).setdefault(stem, key)
    pairs = [(stem, means[stem], covariances[stem]) for stem in means if stem in covariances]
    fitting = [pair for pair in pairs if entries[pair[2]].shape == 2 * entries[pair[1]].shape]
    has_features = any(key in FEATURE_KEYS for key in entries)
    for stem, *names in fitting or ([] if has_features else pairs):
        keys = [prefix + name for name in names]
        is_main = stem == "*" and prefix in ("", "fid/")
        key = prefix.rstrip("/") if stem == "*" and prefix else ",".join(keys)
        yield pair_item(key, keys, [entries[name] for name in names], levels, is_main=is_main)


def _is_positional_pair(entries: Mapping[str, Entry]) -> bool:
    """Whether these are the arrays of ``np.savez(file, mu, sigma)``, perhaps with the number of samples."""
    if set(entries) not in ({"arr_0", "arr_1"}, {"arr_0", "arr_1", "arr_2"}):
        return False
    mean, covariance = entries["arr_0"], entries["arr_1"]
    is_number = "arr_2" not in entries or entries["arr_2"].shape == ()
    return is_number and is_features(covariance) and covariance.shape == 2 * mean.shape and "float" in mean.dtype


def _positional_pair(entries: Mapping[str, Entry], levels: tuple[Tree, ...], prefix: str) -> Item:
    keys = [prefix + "arr_0", prefix + "arr_1"]
    if "arr_2" in entries:
        levels = ({**levels[0], "num_samples": entries["arr_2"]}, *levels[1:])
    pair = [entries["arr_0"], entries["arr_1"]]
    return pair_item(prefix.rstrip("/") or ",".join(keys), keys, pair, levels, is_main=not prefix)


def _label_of(name: str) -> str:
    """The part of a name that does not mean mean or covariance: "dinov2" of ``mu_dinov2``; often empty."""
    role = _ROLE.fullmatch(name)
    return "" if role is None else f"{role['before'] or ''}{role['after'] or role['number'] or ''}".strip("_./-")


def _rank(key: str) -> int:
    """Order of the names ``mu``, ``mean``, ... of one thing."""
    words = (*MEANS, *COVARIANCES)
    return words.index(key.lower()) if key.lower() in words else len(words)


def names_mean(key: str) -> bool:
    """Whether this is the name of a mean or covariance."""
    return _ROLE.fullmatch(key.rpartition("/")[2]) is not None


def pair_item(
    key: str, keys: Sequence[str], pair: Sequence[Entry], levels: tuple[Tree, ...], *, is_main: bool = False
) -> Item:
    """The item of the entries of a mean and a covariance."""
    parents, names = zip(*(key.rpartition("/")[::2] for key in keys), strict=True)
    implied = _extractor_of(parents[0])
    label = _label_of(names[0])
    is_fadtk = tuple(name.rpartition(".")[2] for name in names) == ("mu", "cov")
    named = _label_of(names[1]) == label and (_NETWORK.match(label.lower()) is not None or (is_fadtk and label != ""))
    if names == ("mu_s", "sigma_s"):  # ADM's features with positions
        implied, named = "inception-spatial", True
    elif not label and "mu_s" in levels[0] and "sigma_s" in levels[0]:
        implied = "inception"
    elif named:
        implied = label
    # The stored name is that of mu and sigma, not of mu_dinov2 and sigma_dinov2 beside them.
    is_stored = not named and (not label or not any(not _label_of(key) for key in levels[0] if names_mean(key)))

    def stored() -> str | None:
        return text_of(levels[0], "extractor") if is_stored else None

    def read() -> Stats:
        mu, sigma = (_numbers(name, entry) for name, entry in zip(keys, pair, strict=True))
        errors = levels[0].get("product_errors") if names == ("mu", "sigma") else None
        count, ddof = _count(levels), _integer(levels[0], "ddof")
        if ddof is not None and count is not None and ddof >= max(count, 1):
            raise ValueError(f"ddof must be below num_samples = {count}, got {ddof}")
        product_errors = _numbers("product_errors", errors) if isinstance(errors, Entry) else None
        if product_errors is not None and product_errors.shape != mu.shape:
            raise ValueError(f"product_errors must have the shape of {keys[0]!r}, got {product_errors.shape}")
        return Stats(mu, sigma, count, stored() or implied, ddof, product_errors=product_errors)

    return Item(key, "statistics", pair[0], read, implied, stored, is_main)


def _items_of_sums(levels: tuple[Tree, ...], prefix: str) -> Iterator[Item]:
    """The sums of StyleGAN's FeatureStats, which may be zero: then it holds the features, or nothing."""
    tree = levels[0]
    rows = tree.get("all_features")
    mean, products, captured = tree.get("raw_mean"), tree.get("raw_cov"), tree.get("capture_mean_cov")
    if not isinstance(mean, Entry) or not isinstance(products, Entry) or "num_items" not in tree:
        return
    has_sums = np.any(products.load()) and not (isinstance(captured, Entry) and not np.any(captured.load()))
    if not has_sums and isinstance(rows, Entry) and len(rows.shape) == 2:
        return

    def stored() -> str | None:
        return text_of(tree, "extractor")

    def read() -> Stats:
        n = _integer(tree, "num_items") or 0
        if n < 1:
            raise ValueError(f"there are no samples: num_items is {n}")
        if not has_sums:
            raise ValueError(f"num_items is {n}, but raw_mean and raw_cov are not sums: use capture_mean_cov=True")
        if len(mean.shape) != 1 or products.shape != 2 * mean.shape:
            raise ValueError(f"raw_mean has shape {mean.shape}, but raw_cov {products.shape}")
        with np.errstate(all="ignore"):  # GaussianStats checks the result
            mu = np.asarray(_numbers("raw_mean", mean), np.float64) / n
            sigma = np.asarray(_numbers("raw_cov", products), np.float64) / n - np.outer(mu, mu)
        return Stats(mu, sigma, n, stored() or implied, 0)

    implied = _extractor_of(prefix.rstrip("/"))
    key = prefix.rstrip("/") or "raw_mean,raw_cov"
    yield Item(key, "statistics", mean, read, implied, stored, is_main=prefix in ("", "fid/"))


def _extractor_of(key: str) -> str | None:
    """The extractor that a key of EDM2 implies: ``fid`` and ``fid50k_full`` mean Inception, ``fd_x`` means x."""
    metric = key.rpartition("/")[2].lower()
    if re.fullmatch(r"fid(\d+k?)?(_full)?", metric):
        return "inception"
    found = re.fullmatch(r"fi?d_(.+)", metric)
    return None if found is None else found[1]


# Features and images ------------------------------------------------------------------------------------------------


def is_features(entry: Entry) -> bool:
    """Whether the shape is (n, dim) or (n, dim, 1, 1), and the dtype is floating point."""
    two_axes = len(entry.shape) == 2 or (len(entry.shape) == 4 and entry.shape[2:] == (1, 1))
    return two_axes and entry.dtype.startswith(("float", "bfloat"))


def is_images(entry: Entry) -> bool:
    """Whether the shape has the number of dimensions of images, and is not that of features."""
    return len(entry.shape) > 2 and entry.dtype != "object" and not is_features(entry)


def features_item(key: str, entry: Entry, levels: tuple[Tree, ...], *, checked: bool = True) -> Item:
    """The item of an entry of features; `checked` rejects a covariance unless the name of the entry means features."""

    def read() -> Features:
        rows = rows_of(entry)
        num_items = _integer(levels[0], "num_items") if key.endswith("all_features") else None
        if num_items not in (None, len(rows)):
            raise ValueError(f"num_items is {num_items}, but all_features has {len(rows)} rows")
        if rows.ndim == 4:
            rows = rows.reshape(rows.shape[:2])
        if checked and key.rpartition("/")[2] not in FEATURE_KEYS and _looks_like_covariance(rows):
            raise ValueError(
                f"{repr(key) if key else 'the array'} is a symmetric matrix, like a covariance, not (n, dim) features; "
                "statistics need mu and sigma: np.savez(path, mu=mu, sigma=sigma); "
                "features of this shape need a name: np.savez(path, features=features)"
            )
        return Features(rows, stored() or implied)

    def stored() -> str | None:
        return text_of(levels[0], "model" if name == "reps" else "extractor")  # dgm-eval's representations

    name = key.rpartition("/")[2]
    implied = "inception" if name == "pool_3" else None  # of score_sde
    return Item(key, "features", entry, read, implied, stored)


def _looks_like_covariance(rows: Any) -> bool:
    """Whether the matrix is symmetric, up to float32 rounding, with no negative entry on the diagonal.

    Two rows of two numbers can be symmetric by chance, and the rows of an identity matrix are one-hot features.
    """
    if rows.ndim != 2 or rows.shape[0] != rows.shape[1] or rows.shape[0] < 3 or rows.dtype.kind != "f":
        return False
    wide = np.asarray(rows, np.float64)
    symmetric = np.abs(wide - wide.T).max() <= 1e-6 * np.abs(wide).max() and wide.diagonal().min() >= 0
    return bool(symmetric) and not np.array_equal(wide, np.eye(len(wide)))


# Values -------------------------------------------------------------------------------------------------------------


def _count(levels: Sequence[Tree]) -> int | None:
    """Number of samples; EDM2 writes it beside the dictionaries of the extractors."""
    for level in levels:
        if level is not levels[0] and any(map(names_mean, level)):  # the number of these statistics
            return None
        for key in COUNT_KEYS:
            entry = level.get(key)
            if isinstance(entry, Entry) and (key == "num_samples" or entry.shape in ((), (1,))):
                return _integer(level, key)
    return None


def _numbers(key: str, entry: Entry) -> Any:
    array = entry.load()
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{key!r} must hold real numbers, got {entry}")
    return array


def _integer(level: Tree, key: str) -> int | None:
    value = _scalar(level, key)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (number.is_integer() and 0 <= number <= _MAX_COUNT):
        raise ValueError(f"{key} must be an integer from 0 to {_MAX_COUNT}, got {repr(value)[:50]}")
    return int(number)


def text_of(level: Tree, key: str) -> str | None:
    """The string under a key; None if it is missing or empty."""
    value = _scalar(level, key)
    if value is not None and not isinstance(value, (str, bytes)):
        raise ValueError(f"{key} must be text, got {value!r}")
    return (value.decode() if isinstance(value, bytes) else value) or None


def _scalar(level: Tree, key: str) -> Any:
    """The value of an entry of one element; None if there is no such entry."""
    entry = level.get(key)
    if not isinstance(entry, Entry) or entry.dtype == "object":
        return None
    values = np.asarray(entry.load()).reshape(-1)
    if values.size != 1:
        raise ValueError(f"{key} must be one value, got an array of shape {entry.shape}")
    return values[0].item()
