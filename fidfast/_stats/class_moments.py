"""Per-class moments of features."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import as_array, optional, require_instance, require_integer, require_mapping
from fidfast._devices import to_host
from fidfast._files import check_class_moments
from fidfast._stats.block_states import change_all
from fidfast._stats.collector import Collector
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.locks import atomic, holding, share_lock
from fidfast._stats.moments import Moments, cores_of
from fidfast._stats.slices import as_rows

__all__ = ["ClassMoments", "Label"]

Label = int | str

#: Number of rows that are sorted by class at a time, which bounds the copy of a memory map.
_ROWS_PER_SORT = 1024


class ClassMoments(Collector, Mapping[Label, Moments]):
    """Moments of features for each class, in one pass over a labelled stream.

    A mapping from labels to `Moments`, in the order of the labels. As with `Moments`, batches may have any size, order
    and floating-point type, and may come from several threads; moments of parts of the data merge into those of all of
    it.

    Parameters
    ----------
    dim : int
        Number of columns of the features.
    num_classes : int, optional
        If given, labels must be integers from 0 to ``num_classes - 1``, and `class_distances` reports classes without
        rows as missing. By default the classes are the labels that occur.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.
    extractor : str, optional
        Name of the network that computes the features; stored with the statistics.

    Raises
    ------
    ValueError
        If `dim` or `num_classes` is below 1, or `precision` is not one of the above.

    Notes
    -----
    A class of at most `dim` rows is stored as rows, 4 bytes per number (8 for float64), and up to twice that while it
    grows. A larger class is stored as its scatter, 8 dim^2 bytes, and about as much again for the products and pending
    rows.

    Examples
    --------
    >>> import numpy as np
    >>> moments = ClassMoments(dim=4)
    >>> moments.update(np.ones((3, 4)), ["cat", "dog", "cat"])
    >>> moments["cat"].num_samples, list(moments)
    (2, ['cat', 'dog'])
    """

    __slots__ = ("_classes", "_empty", "_num_classes")

    def __init__(
        self,
        dim: int,
        *,
        num_classes: int | None = None,
        precision: str = "float32",
        extractor: str | None = None,
    ) -> None:
        num_classes = optional(require_integer, "num_classes", num_classes, 1)
        self._empty = Moments(dim, precision=precision, extractor=extractor)  # copied for each new class
        self._num_classes = num_classes
        self._classes: dict[Label, Moments] = {}

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return self._empty.dim

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None if it was not given; ``len`` counts the classes that occurred."""
        return self._num_classes

    @property
    @atomic
    def num_samples(self) -> int:
        """Number of rows seen in all classes."""
        return sum(moments.num_samples for moments in self._classes.values())

    @property
    def precision(self) -> str:
        """Arithmetic of the products of rows of float32 and narrower."""
        return self._empty.precision

    @property
    def extractor(self) -> str | None:
        """Name of the network that computes the features, or None if it was not given."""
        return self._empty.extractor

    def update(self, features: Any, labels: Any) -> None:
        """Add a batch of features and their classes.

        Parameters
        ----------
        features : (n, dim) array or tensor
            As in `Moments.update`.
        labels : (n,) array, tensor or list of int or str; or int or str
            The class of each row, or one class for all rows. All labels of a stream are integers, or all are strings.

        Raises
        ------
        TypeError
            If the features are not an array or not of a floating-point type, or the labels are neither integers nor
            strings.
        ValueError
            If a shape does not match, a value is NaN or infinite, or a label is not below `num_classes`. All moments
            stay unchanged.
        """
        features = to_host(as_rows(features))
        if not hasattr(features, "__dlpack__") and hasattr(features, "__array__"):
            features = as_array("features", features)  # once, not for each slice below
        n, dim = _core.require_finite(features, for_moments=True)
        if dim != self.dim:
            raise ValueError(f"features have {dim} columns, but ClassMoments was created with dim={self.dim}")
        classes, codes = np.unique(_labels(labels, n), return_inverse=True)
        if n == 0:
            return
        names: list[Label] = classes.tolist()
        with holding(self):
            self._require_valid(names)
            if len(names) == 1:
                self._add_rows(features, names, [n])
            elif n <= _ROWS_PER_SORT:
                self._add_sorted(features, names, codes, 0)
            else:
                batch = ClassMoments(self.dim, precision=self.precision, extractor=self.extractor)
                for first in range(0, n, _ROWS_PER_SORT):
                    batch._add_sorted(features, names, codes[first : first + _ROWS_PER_SORT], first)
                self._add_classes(batch)

    def _add_sorted(self, features: Any, names: list[Label], codes: NDArray[np.intp], first: int) -> None:
        """Add the rows of the classes ``names[codes]`` that start at row `first`."""
        rows = _core.gather(features, first + np.argsort(codes, kind="stable"))
        present, counts = np.unique(codes, return_counts=True)
        self._add_rows(rows, [names[code] for code in present], counts.tolist())

    def _add_rows(self, rows: Any, labels: list[Label], counts: list[int]) -> None:
        """Add consecutive rows of several classes in one call, so that an interrupt cannot separate them."""
        with self._classes_of(labels) as cores:
            _core.Moments.update_all(cores, rows, counts)

    def _add_classes(self, other: ClassMoments) -> None:
        """Add the rows of all classes of `other`."""
        with self._classes_of(other._classes) as cores:
            change_all("merge", list(zip(cores, cores_of(other._classes.values()), strict=True)))

    def _require_valid(self, names: list[Label]) -> None:
        """Raises for sorted labels that are out of range, or of another type than earlier labels."""
        if not names:
            return
        if self._num_classes is not None:
            outside = [
                name for name in (names[0], names[-1]) if isinstance(name, str) or not 0 <= name < self._num_classes
            ]
            if outside:
                raise ValueError(
                    f"labels must be integers from 0 to num_classes - 1 = {self._num_classes - 1}, got {outside[0]!r}"
                )
        for name in list(self._classes)[:1]:
            if isinstance(name, str) != isinstance(names[0], str):
                raise TypeError(f"labels must be all integers or all strings, got {names[0]!r} after {name!r}")

    @contextmanager
    def _classes_of(self, labels: Iterable[Label]) -> Iterator[list[_core.Moments]]:
        """The moments of the labels for a change. New classes are removed again if they get no rows."""
        labels = list(labels)
        new = {label: share_lock(self, copy.copy(self._empty)) for label in labels if label not in self._classes}
        try:
            self._classes.update(new)
            yield cores_of(self._classes[label] for label in labels)
        except BaseException:
            for label, moments in new.items():
                if not moments.num_samples:
                    self._classes.pop(label, None)
            raise

    @atomic
    def merge(self, other: ClassMoments) -> None:
        """Add the rows that `other` has seen, class by class.

        Parameters
        ----------
        other : ClassMoments
            With the same ``dim`` and ``num_classes``; not changed.

        Raises
        ------
        ValueError
            If the dims, the numbers of classes or the extractors differ.
        TypeError
            If the labels of one are integers and those of the other strings.
        """
        require_instance("other", other, ClassMoments)
        if self._num_classes != other._num_classes:
            raise ValueError(
                f"cannot merge moments of num_classes={self._num_classes} and num_classes={other._num_classes}"
            )
        self._require_valid(list(other._classes)[:1])
        self._empty.merge(other._empty)  # raises if dims or extractors differ; adopts the extractor
        for moments in self._classes.values():
            moments.merge(self._empty)  # adopts the extractor
        self._add_classes(other)

    @atomic
    def reset(self) -> None:
        """Remove all rows and classes."""
        self._classes = {}

    @atomic
    def stats(self, label: Label, *, ddof: int = 1) -> GaussianStats:
        """Mean and covariance of one class.

        Parameters
        ----------
        label : int or str
            The class.
        ddof : int, default 1
            The covariance is the scatter divided by ``num_samples - ddof``.

        Raises
        ------
        KeyError
            If the class has no rows.
        ValueError
            If it has one row, or `ddof` is not below that number.
        """
        moments = self[label]
        try:
            return moments.stats(ddof=ddof)
        except ValueError as error:
            raise ValueError(f"class {label!r}: {error}") from error

    @atomic
    def total(self) -> Moments:
        """Moments of the rows of all classes together."""
        total = copy.copy(self._empty)
        for moments in self._classes.values():
            total.merge(moments)
        return total

    @atomic
    def state(self) -> dict[str, NDArray[Any]]:
        """The moments of all classes as named arrays.

        Returns
        -------
        dict of str to ndarray
            ``dim``, ``num_classes`` (-1 if not given), ``precision``, ``extractor``, ``labels`` (num_labels,), and the
            entries of ``Moments.state()`` of the i-th label under ``i/``.
        """
        labels = list(self)
        described = {
            "dim": self.dim,
            "num_classes": -1 if self._num_classes is None else self._num_classes,
            "precision": self.precision,
            "extractor": self.extractor or "",
            "labels": np.array(labels, dtype=np.str_ if isinstance(next(iter(labels), 0), str) else np.int64),
        }
        classes = {f"{i}/{key}": value for i, label in enumerate(labels) for key, value in self[label].state().items()}
        return {key: np.asarray(value) for key, value in {**described, **classes}.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> ClassMoments:
        """Inverse of `state`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the state is invalid.
        """
        check_class_moments(require_mapping("state", state))
        num_classes = int(state["num_classes"])
        moments = cls(
            int(state["dim"]),
            num_classes=None if num_classes < 0 else num_classes,
            precision=str(state["precision"]),
            extractor=str(state["extractor"]) or None,
        )
        classes: dict[str, dict[str, NDArray[Any]]] = {}
        for key, value in state.items():
            position, slash, name = key.partition("/")
            if slash:
                classes.setdefault(position, {})[name] = value
        for i, label in enumerate(state["labels"].tolist()):
            try:
                of_class = Moments.from_state(classes[str(i)])
            except ValueError as error:
                raise ValueError(f"class {label!r}: {error}") from error
            if of_class.dim != moments.dim:
                raise ValueError(
                    f"the state of ClassMoments has dim {moments.dim}, but class {label!r} has dim {of_class.dim}"
                )
            moments._classes[label] = share_lock(moments, of_class)
        return moments

    def __getitem__(self, label: Label) -> Moments:
        try:
            return self._classes[label]
        except KeyError:
            raise KeyError(f"class {label!r} has no rows") from None
        except TypeError:  # not hashable
            raise TypeError(f"label must be an int or a str, got {type(label).__name__}") from None

    @atomic
    def __iter__(self) -> Iterator[Label]:
        return iter(sorted(self._classes))  # integers and strings are never mixed

    def __len__(self) -> int:
        return len(self._classes)

    @atomic
    def __repr__(self) -> str:
        return (
            f"ClassMoments(dim={self.dim}, classes={len(self)}, num_samples={self.num_samples}, "
            f"precision={self.precision!r}, extractor={self.extractor!r})"
        )


def _labels(labels: Any, n: int) -> NDArray[Any]:
    """The label of each of n rows, (n,), as integers or strings; a single label is repeated."""
    array = as_array("labels", labels, "an array, tensor or list (n,)")
    if array.ndim > 1:
        raise ValueError(f"labels must be 1-D (n,), got shape {array.shape}")
    if array.ndim == 1 and len(array) != n:
        raise ValueError(f"labels have {len(array)} entries, but features have {n} rows")
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    # NumPy converts a list of numbers and strings to strings, and the strings of a data frame to objects.
    mixed = (
        array.dtype.kind == "U" and not hasattr(labels, "dtype") and not _all_strings(np.asarray(labels, dtype=object))
    )
    if array.dtype.kind in "OT" and _all_strings(array):
        array = array.astype(np.str_)
    if array.dtype.kind not in "iuU" or mixed:
        raise TypeError(f"labels must be integers or strings, got {'a mixture' if mixed else array.dtype}")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"labels must be below 2^63, got {array.max()}")
    return np.broadcast_to(array, (n,))


def _all_strings(objects: NDArray[Any]) -> bool:
    return all(isinstance(each, str) for each in objects.flat)
