"""Counts of the n-grams of texts, and the Jensen-Shannon divergence between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._files import formats
from fidfast._stats.collector import Mergeable

__all__ = ["NgramCounts", "ngram_jsd"]

Texts = str | Iterable[str] | Iterable[Sequence[str]]


class NgramCounts(Mergeable):
    """Counts of the n-grams of texts: exact, mergeable, from a stream.

    Texts may come in any order and any batches, from several threads; counts of parts of the data merge to the counts
    of the whole. An n-gram lies within one text, never across two.

    Parameters
    ----------
    n : int
        Number of characters or words in an n-gram, from 1 to 1,024.
    level : {"char", "word"}, default "char"
        What an n-gram is made of. A character is a Unicode code point, white space included. Words are what lies
        between white space, as ``str.split()`` has it.

    Raises
    ------
    ValueError
        If `n` or `level` is none of these.

    Notes
    -----
    An n-gram takes 64 bits, or as few times 64 as its code points (or its words' numbers) need, and 64 more for its
    count, in a hash table that is half to three quarters full: `nbytes` says what it comes to.

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

    def __init__(self, n: int, level: str = "char") -> None:
        self._core = _core.NgramCounts(index(n), level)

    @classmethod
    def _of_core(cls, core: _core.NgramCounts) -> NgramCounts:
        counts = cls.__new__(cls)
        counts._core = core
        return counts

    @property
    def n(self) -> int:
        """Number of characters or words in an n-gram."""
        return self._core.n

    @property
    def level(self) -> str:
        """What an n-gram is made of: "char" or "word"."""
        return self._core.level

    @property
    def num_ngrams(self) -> int:
        """Number of n-grams counted, each as often as it came."""
        return self._core.num_ngrams

    @property
    def num_distinct(self) -> int:
        """Number of different n-grams."""
        return self._core.num_distinct

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the counts take."""
        return self._core.nbytes

    def update(self, texts: Texts, *, threads: int | None = None) -> None:
        """Count the n-grams of texts.

        Parameters
        ----------
        texts : iterable of str
            Each item is a text of its own; texts shorter than ``n`` have no n-grams. A single str is one text. At the
            level of words, an item may also be a sequence of str, which are then its words as they are. Nothing is
            copied, and a generator is read bit by bit.
        threads : int, optional
            Up to so many threads count at once; as many as there are cores if not given.

        Raises
        ------
        TypeError
            If `texts` is no iterable, or an item is no text. The counts stay as they were.
        ValueError
            If `threads` is below 1.
        """
        self._core.update(texts, _num_cores() if threads is None else index(threads))

    def merge(self, other: NgramCounts) -> None:
        """Add what `other` has counted.

        Parameters
        ----------
        other : NgramCounts
            Of the same ``n`` and ``level``; stays as it is.

        Raises
        ------
        ValueError
            If ``n`` or ``level`` differ.
        """
        self._core.merge(other._core)

    def reset(self) -> None:
        """Forget every n-gram."""
        self._core.reset()

    def most_common(self, k: int | None = None) -> list[tuple[Any, int]]:
        """The n-grams with the largest counts, and the counts.

        Parameters
        ----------
        k : int, optional
            How many; all of them if not given.

        Returns
        -------
        list of (n-gram, count)
            Largest count first; n-grams of equal counts in their own order. An n-gram is a str of ``n`` characters,
            or a tuple of ``n`` words.

        Raises
        ------
        ValueError
            If `k` is below 0.
        """
        return self._core.most_common(sys.maxsize if k is None else index(k))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counts to a file, from which `load` goes on.

        Parameters
        ----------
        path : path
            Where to write; ``.npz`` is appended where the name does not end in it. The file appears whole or not at
            all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        formats.write_state(path, formats.State("NgramCounts", _entries(self._core)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NgramCounts:
        """Read a file that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or holds no n-gram counts.
        """
        return formats.read_state(path, "NgramCounts", _of_entries)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NgramCounts):
            return NotImplemented
        return self._core.equals(other._core)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return (
            f"NgramCounts(n={self.n}, level={self.level!r}, num_ngrams={self.num_ngrams}, "
            f"num_distinct={self.num_distinct})"
        )

    def __copy__(self) -> NgramCounts:
        return NgramCounts._of_core(self._core.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.n, self.level, *self._core.state())


def ngram_jsd(a: NgramCounts | Texts, b: NgramCounts | Texts, n: int | None = None, level: str | None = None) -> float:
    """Jensen-Shannon divergence between the n-gram distributions of two sets of texts, in bits.

    With the shares p and q of the n-grams and m = (p + q) / 2, it is (KL(p || m) + KL(q || m)) / 2 with logarithms to
    base 2: 0 for equal distributions, 1 for disjoint ones, in between otherwise, and the same with the sides swapped.

    Parameters
    ----------
    a, b : NgramCounts or texts
        Texts as `NgramCounts.update` takes them. A reference that serves more than once is counted once and given as
        `NgramCounts`.
    n : int, optional
        Number of characters or words in an n-gram. Given by the counts where a side is counted already.
    level : {"char", "word"}, optional
        What an n-gram is made of. Given by the counts where a side is counted already; "char" otherwise.

    Raises
    ------
    TypeError
        If a side is neither counts nor texts.
    ValueError
        If the sides differ in ``n`` or ``level``, a side has no n-grams, or nothing tells ``n``.

    Notes
    -----
    The language experiments of Gulrajani et al., "Improved training of Wasserstein GANs" (2017), and of Heusel et al.,
    "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (2017), report it for
    characters; docs/ngrams.md says of which texts. Of small samples it is too large: compare like with like.

    Examples
    --------
    >>> ngram_jsd(["abab"], ["abab", "abab"], n=2)
    0.0
    >>> ngram_jsd(["aaa"], ["bbb"], n=2)
    1.0
    """
    counted = [side for side in (a, b) if isinstance(side, NgramCounts)]
    if len(counted) == 2 and n is None and level is None:
        return _core.ngram_jsd(counted[0]._core, counted[1]._core)
    if n is None and not counted:
        raise ValueError("n is not given, and neither a nor b is an NgramCounts that would tell it")
    n = counted[0].n if n is None else index(n)
    if level is None:
        level = counted[0].level if counted else "char"
    return _core.ngram_jsd(_counts_of(a, "a", n, level), _counts_of(b, "b", n, level))


def _counts_of(side: NgramCounts | Texts, name: str, n: int, level: str) -> _core.NgramCounts:
    if isinstance(side, NgramCounts):
        if (side.n, side.level) != (n, level):
            raise ValueError(
                f"{name} has n={side.n} and level={side.level!r}, but n={n} and level={level!r} are asked for"
            )
        return side._core
    counts = NgramCounts(n, level)
    try:
        counts.update(side)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    return counts._core


def _entries(counts: _core.NgramCounts) -> dict[str, NDArray[Any]]:
    """All n-grams with their counts, in the smallest integers that hold them, and the words one after the other."""
    words, symbols, numbers = counts.state()
    letters = [word.encode("utf-8", "surrogatepass") for word in words]
    return {
        "n": np.array(counts.n),
        "level": np.array(counts.level),
        "num_ngrams": np.array(counts.num_ngrams),  # these two for the reader of the file
        "num_distinct": np.array(counts.num_distinct),
        "words": np.frombuffer(b"".join(letters), dtype=np.uint8),
        "word_ends": np.cumsum([len(word) for word in letters], dtype=np.uint64),
        "ngrams": symbols.astype(np.min_scalar_type(symbols.max(initial=0))),
        "counts": numbers.astype(np.min_scalar_type(numbers.max(initial=0))),
    }


def _of_entries(entries: formats.Entries) -> NgramCounts:
    letters, ends = entries["words"], entries["word_ends"]
    ngrams, counts = entries["ngrams"], entries["counts"]
    if {letters.dtype.kind, ends.dtype.kind, ngrams.dtype.kind, counts.dtype.kind} != {"u"}:
        raise ValueError("n-gram counts that are no unsigned integers")
    text, ends = letters.tobytes(), ends.astype(np.int64)
    if np.any(np.diff(ends, prepend=0) < 0) or np.max(ends, initial=0) != len(text):
        raise ValueError(f"words that do not end where their {len(text)} bytes do")
    words = [text[first:end].decode("utf-8", "surrogatepass") for first, end in zip([0, *ends], ends, strict=False)]
    core = _core.NgramCounts.from_state(int(entries["n"]), str(entries["level"]), words, ngrams, counts)
    return NgramCounts._of_core(core)


def _num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unpickle(*state: Any) -> NgramCounts:
    return NgramCounts._of_core(_core.NgramCounts.from_state(*state))
