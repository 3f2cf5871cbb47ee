"""Counts of the n-grams of texts, and the Jensen-Shannon divergence between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import as_dense, optional, require_choice, require_instance, require_integer, require_mapping
from fidfast._files import check_ngrams
from fidfast._stats import Collector

__all__ = ["NgramCounts", "ngram_jsd"]

Texts = str | Iterable[str] | Iterable[Sequence[str]]


class NgramCounts(Collector):
    """Exact, mergeable counts of the n-grams of a stream of texts.

    Texts may come in any order and any batches, from several threads; counts of parts of the data merge into the counts
    of all of it. An n-gram never spans two texts.

    Parameters
    ----------
    n : int
        Number of characters or words in an n-gram, from 1 to 1,024.
    level : {"char", "word"}, default "char"
        The units of an n-gram. A character is a Unicode code point, including white space. Words are separated by white
        space, as in ``str.split()``.

    Raises
    ------
    ValueError
        If `n` or `level` is not one of the above.

    Notes
    -----
    An n-gram takes the smallest multiple of 64 bits that holds its code points (or the numbers of its words), and 64
    bits for its count, in a hash table that is half to three quarters full; `nbytes` is the total.

    Examples
    --------
    >>> counts = NgramCounts(n=2)
    >>> counts.update(["banana", "band"])
    >>> counts.most_common(2)
    [('an', 3), ('ba', 2)]
    >>> counts
    NgramCounts(n=2, level='char', num_ngrams=8, num_distinct=4)
    >>> words = NgramCounts(n=2, level="word")
    >>> words.update(["to be or not to be"])
    >>> words.most_common(1)
    [(('to', 'be'), 2)]
    """

    __slots__ = ("_core",)

    def __init__(self, n: int, *, level: str = "char") -> None:
        self._core = _core.NgramCounts(require_integer("n", n), require_choice("level", level, ("char", "word")))

    @classmethod
    def _from_core(cls, core: _core.NgramCounts) -> NgramCounts:
        counts = cls.__new__(cls)
        counts._core = core
        return counts

    @property
    def n(self) -> int:
        """Number of characters or words in an n-gram."""
        return self._core.n

    @property
    def level(self) -> str:
        """Units of an n-gram: "char" or "word"."""
        return self._core.level

    @property
    def num_ngrams(self) -> int:
        """Number of n-grams counted, repetitions included."""
        return self._core.num_ngrams

    @property
    def num_distinct(self) -> int:
        """Number of distinct n-grams."""
        return self._core.num_distinct

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the counts."""
        return self._core.nbytes

    def update(self, texts: Texts, *, threads: int | None = None) -> None:
        """Count the n-grams of texts.

        Parameters
        ----------
        texts : iterable of str
            Each item is a separate text; texts shorter than ``n`` have no n-grams. A single str is one text. At the
            word level an item may also be a sequence of str, its words. Nothing is copied, and a generator is read
            incrementally.
        threads : int, optional
            Maximum number of threads that count in parallel; by default the number of cores.

        Raises
        ------
        TypeError
            If `texts` is not iterable, or an item is not a text. The counts stay unchanged.
        ValueError
            If `threads` is below 1.
        """
        self._core.update(
            as_dense(texts, "texts"), _num_cores() if threads is None else require_integer("threads", threads, 1)
        )

    def merge(self, other: NgramCounts) -> None:
        """Add the counts of `other`.

        Parameters
        ----------
        other : NgramCounts
            With the same ``n`` and ``level``; not changed.

        Raises
        ------
        ValueError
            If ``n`` or ``level`` differ.
        """
        self._core.merge(require_instance("other", other, NgramCounts)._core)

    def reset(self) -> None:
        """Remove all n-grams."""
        self._core.reset()

    def most_common(self, k: int | None = None) -> list[tuple[Any, int]]:
        """The n-grams with the largest counts, and the counts.

        Parameters
        ----------
        k : int, optional
            How many; all by default.

        Returns
        -------
        list of (n-gram, count)
            Largest count first; n-grams of equal counts in lexicographic order. An n-gram is a str of ``n``
            characters, or a tuple of ``n`` words.

        Raises
        ------
        ValueError
            If `k` is below 0.
        """
        return self._core.most_common(sys.maxsize if k is None else require_integer("k", k, 0))

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts as named arrays.

        Returns
        -------
        dict of str to ndarray
            ``n``, ``level``, ``num_ngrams`` and ``num_distinct``; ``words`` (UTF-8 bytes) and ``word_ends``, empty for
            characters; ``ngrams`` (num_distinct, n), code points or numbers of words, and ``counts`` (num_distinct,),
            in the smallest unsigned integers that hold them.
        """
        words, symbols, numbers = self._core.state()
        encoded = [word.encode("utf-8", "surrogatepass") for word in words]
        return {
            "n": np.array(self.n),
            "level": np.array(self.level),
            # These two are for readers of the file; other threads may have counted more meanwhile.
            "num_ngrams": np.array(numbers.sum(dtype=np.int64)),
            "num_distinct": np.array(len(numbers)),
            "words": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "word_ends": np.cumsum([len(word) for word in encoded], dtype=np.uint64),
            "ngrams": symbols.astype(np.min_scalar_type(symbols.max(initial=0))),
            "counts": numbers.astype(np.min_scalar_type(numbers.max(initial=0))),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> NgramCounts:
        """Inverse of `state`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the state is invalid.
        """
        check_ngrams(require_mapping("state", state))
        encoded, ends = state["words"], state["word_ends"]
        ngrams, counts = state["ngrams"], state["counts"]
        text, ends = encoded.tobytes(), ends.astype(np.int64)
        if np.any(np.diff(ends, prepend=0) < 0) or np.max(ends, initial=0) != len(text):
            raise ValueError(f"word_ends must ascend to the number of bytes of words, {len(text)}")
        words = [text[first:end].decode("utf-8", "surrogatepass") for first, end in zip([0, *ends], ends, strict=False)]
        return cls._from_core(_core.NgramCounts.from_state(int(state["n"]), str(state["level"]), words, ngrams, counts))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NgramCounts):
            return NotImplemented
        return self._core.equals(other._core)

    __hash__ = None  # mutable

    def __repr__(self) -> str:
        return (
            f"NgramCounts(n={self.n}, level={self.level!r}, num_ngrams={self.num_ngrams}, "
            f"num_distinct={self.num_distinct})"
        )

    def __copy__(self) -> NgramCounts:
        return NgramCounts._from_core(self._core.copy())


def ngram_jsd(
    samples: NgramCounts | Texts, reference: NgramCounts | Texts, *, n: int | None = None, level: str | None = None
) -> float:
    """Jensen-Shannon divergence between the n-gram distributions of two sets of texts, in bits.

    With the shares p and q of the n-grams and m = (p + q) / 2, it is (KL(p || m) + KL(q || m)) / 2 with logarithms to
    base 2: 0 for equal distributions, 1 for disjoint ones. Symmetric in its arguments.

    Parameters
    ----------
    samples, reference : NgramCounts or texts
        Texts as in `NgramCounts.update`. Count a reference that is used repeatedly once, and pass the `NgramCounts`.
    n : int, optional
        Number of characters or words in an n-gram. Required if neither side is an `NgramCounts`.
    level : {"char", "word"}, optional
        The units of an n-gram. By default that of an argument that is an `NgramCounts`, else "char".

    Returns
    -------
    float
        From 0 to 1 bit.

    Raises
    ------
    TypeError
        If a side is neither counts nor texts.
    ValueError
        If the sides differ in ``n`` or ``level``, a side has no n-grams, or ``n`` is missing.

    Notes
    -----
    The language experiments of Gulrajani et al., "Improved training of Wasserstein GANs" (2017), and of Heusel et al.,
    "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (2017), report it for
    characters; docs/ngrams.md describes the texts. It is biased upwards for small samples: compare equal sizes.

    Examples
    --------
    >>> ngram_jsd(["abab"], ["abab", "abab"], n=2)
    0.0
    >>> ngram_jsd(["aaa"], ["bbb"], n=2)
    1.0
    """
    n = optional(require_integer, "n", n)
    if level is not None:
        require_choice("level", level, ("char", "word"))
    counted = [side for side in (samples, reference) if isinstance(side, NgramCounts)]
    if len(counted) == 2 and n is None and level is None:
        return _core.ngram_jsd(counted[0]._core, counted[1]._core)
    if n is None and not counted:
        raise ValueError("n is required, because neither samples nor reference is an NgramCounts")
    n = counted[0].n if n is None else require_integer("n", n)
    if level is None:
        level = counted[0].level if counted else "char"
    return _core.ngram_jsd(
        _counts_of(samples, "samples", n, level)._core, _counts_of(reference, "reference", n, level)._core
    )


def _counts_of(side: NgramCounts | Texts, name: str, n: int, level: str) -> NgramCounts:
    if isinstance(side, NgramCounts):
        if (side.n, side.level) != (n, level):
            raise ValueError(
                f"{name} has n={side.n} and level={side.level!r}, but n={n} and level={level!r} are requested"
            )
        return side
    counts = NgramCounts(n, level=level)
    try:
        counts.update(side)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    return counts


def _num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
