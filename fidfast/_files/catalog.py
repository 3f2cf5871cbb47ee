"""What a file holds, and the choice of what a function uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fidfast._files.extractors import contains, has_name, may_be, network_of
from fidfast._files.items import (
    FEATURE_KEYS,
    Item,
    features_item,
    is_features,
    is_images,
    items_of,
    names_mean,
    pair_item,
    text_of,
)
from fidfast._files.records import Entry, Features, Stats, Tree
from fidfast._files.write import STATE_MARK

__all__ = ["Catalog"]

_CHOOSE = "choose one with key= or --key"


class Catalog:
    """The entries of a file, and the statistics, features and images among them.

    Parameters
    ----------
    tree : Tree
        The entries, which are read when they are needed.
    origin : str
        Name of the file, for messages.
    container : str, default "file"
        "file" or "folder", for messages.
    """

    def __init__(self, tree: Tree, origin: str, *, container: str = "file") -> None:
        self.tree = tree
        self._origin = origin
        self._container = container
        #: The entries by key; "/" joins the keys of nested dictionaries.
        self.entries: dict[str, Entry] = {}
        #: By key: the dictionary of the entry, and those around it.
        self._levels: dict[str, tuple[Tree, ...]] = {}
        for key, entry, levels in _flat((tree,)):
            self.entries[key], self._levels[key] = entry, levels
        #: Whether the file is a checkpoint.
        self.is_state = STATE_MARK in tree
        self.items: list[Item] = [] if self.is_state else list(items_of((tree,)))

    def of_kind(self, what: str) -> list[Item]:
        """The items that are "statistics", "features" or "images"."""
        return [item for item in self.items if item.what == what]

    @property
    def kinds(self) -> list[str]:
        """The kinds of the items: "statistics", "features", "images"."""
        return [what for what in ("statistics", "features", "images") if self.of_kind(what)]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the items, without repetition."""
        return tuple(dict.fromkeys(item.key for item in self.items if item.key))

    @property
    def has_matrix(self) -> bool:
        """Whether an array under any key has the shape and dtype of features."""
        return any(map(is_features, self.entries.values()))

    @property
    def extractor(self) -> str | None:
        """Name of the extractor, if it is stored beside the features."""
        return text_of(self.tree, "extractor")

    def read(self, *, key: str | None = None, rows: bool = False, extractor: str | None = None) -> Stats | Features:
        """Read statistics or features.

        Parameters
        ----------
        key : str, optional
            A key of `items` or `entries`, or the keys of a mean and a covariance with a comma between them.
        rows : bool, default False
            Whether features have precedence over statistics.
        extractor : str, optional
            Chooses among the statistics of several extractors, if `key` does not.

        Raises
        ------
        ValueError
            If there is no such key, nothing that can be used, or more than one choice.
        """
        order = ["features", "statistics"] if rows else ["statistics", "features"]
        item = self._main(order, extractor) if key is None else self._with_key(key, order)
        record: Stats | Features = item.read()
        if item.implied is not None and record.extractor == item.implied and contains(extractor, item.implied):
            record = replace(record, extractor=extractor)
        return replace(record, note=self.note(item.what, item))

    def has(self, key: str) -> bool:
        """Whether `read` finds statistics or features with this key."""
        try:
            self._with_key(key, ["statistics", "features"])
        except ValueError:
            return False
        return True

    def has_images(self, key: str) -> bool:
        """Whether the key is that of an array with the number of dimensions of images, or "images" if there are any."""
        return is_images(self.entries[key]) if key in self.entries else key == "images" and bool(self.of_kind("images"))

    def note(self, what: str, used: Item | None = None) -> str | None:
        """What was used, if the file holds more: for example "statistics (the file also holds 10,000 images)"."""
        others: list[str] = []
        name = what
        if used is not None and used.key:
            others = [repr(item.key) for item in self.of_kind(what) if item.key != used.key]
            name = f"{what} {used.key!r}" if others else what
        others += [self._amount(other) for other in self.kinds if other != what]
        return f"{name} (the {self._container} also holds {_joined(others)})" if others else None

    def _amount(self, what: str) -> str:
        items = self.of_kind(what)
        if what == "images":
            return f"{items[0].entry.shape[0] if len(items) == 1 else len(items):,} images"
        if what == "features" and len(items) == 1:
            return f"features of {items[0].entry.shape[0]:,} samples"
        return what

    def _main(self, order: list[str], extractor: str | None) -> Item:
        what = next((what for what in order if self.of_kind(what)), None)
        if what is None:
            raise ValueError(self._why_nothing())
        items = self.of_kind(what)
        if extractor is not None:
            items = self._of_extractor(items, extractor)
        main = [item for item in items if item.is_main]
        items = main if len(main) == 1 else items
        if len(items) > 1:
            raise ValueError(f"{self._origin} holds several {what}: {', '.join(map(str, items))}; {_CHOOSE}")
        return items[0]

    def _named(self, key: str, usable: list[Item]) -> list[Item]:
        """The items of the extractor of this name, unless it is the key of an entry."""
        if not key or key in self.entries:
            return []
        names = [(item, item.extractor or "") for item in usable]
        exact = [item for item, name in names if network_of(name) == key.lower()]
        exact = exact or [item for item, name in names if name and has_name(key, name)]
        return exact or [item for item, name in names if name and may_be(key, name)]

    def _of_extractor(self, items: list[Item], extractor: str) -> list[Item]:
        """The items that may be of an extractor."""
        if len(items) == 1 and items[0].implied is None:
            return items  # a stored name is compared later, with a warning
        names = [(item, item.extractor) for item in items]
        exact = [item for item, name in names if name is not None and network_of(name) == network_of(extractor)]
        exact = exact or [item for item, name in names if name is not None and has_name(extractor, name)]
        if exact:
            return exact
        possible = [(item, name) for item, name in names if name is None or may_be(extractor, name)]
        if not possible:
            found = _joined([f"{item.key!r} of {name}" for item, name in names])
            raise ValueError(
                f"{self._origin} holds {items[0].what} {found}, but the extractor is {extractor}; {_CHOOSE}"
            )
        named = [item for item, name in possible if name is not None or contains(extractor, item.key)]
        return named if len(named) == 1 else [item for item, _ in possible]

    def _with_key(self, key: str, order: list[str]) -> Item:
        usable = [item for item in self.items if item.what in order]
        found = (
            [item for item in usable if item.key == key]
            or [item for item in usable if item.key.startswith(f"{key}/")]
            or self._named(key, usable)
        )
        if found:
            kind = min(order.index(item.what) for item in found)
            found = [item for item in found if item.what == order[kind]]
            if len(found) > 1:
                raise ValueError(f"{self._origin} holds several {order[kind]}: {', '.join(map(str, found))}; {_CHOOSE}")
            return found[0]
        keys = [part.strip() for part in key.split(",")]
        missing = next((part for part in keys if part not in self.entries), None)
        if missing is not None or len(keys) > 2:
            raise ValueError(f"{self._origin} has no {missing or key!r}; {self._keys()}")
        entries, levels = [self.entries[part] for part in keys], self._levels[keys[0]]
        if len(keys) == 2:
            return pair_item(key, keys, entries, levels)
        if not is_features(entries[0]) or names_mean(key):
            pair = "; statistics need two keys, for example 'mu,sigma'" if names_mean(key) else ""
            raise ValueError(f"{self._origin}: {key!r} is {entries[0]}, not (n, dim) features{pair}; {self._keys()}")
        return features_item(key, entries[0], levels, checked=False)

    def _keys(self) -> str:
        shown = [f"{key!r} {entry}" for key, entry in list(self.entries.items())[:12]]
        more = f" and {len(self.entries) - 12:,} more" if len(self.entries) > 12 else ""
        return f"its keys are {', '.join(shown) or 'none'}{more}"

    def _why_nothing(self) -> str:
        images = self.of_kind("images")
        if images:
            shown = ", ".join(map(str, images[:3])) + (", ..." if len(images) > 3 else "")
            advice = "compare images with fidfast.torch.fid_of_images or `fidfast fid`"
            if not self._origin.lower().endswith((".npy", ".npz")):
                advice += " after saving the array with numpy.save as .npy"
            return f"{self._origin} holds images ({shown}), not statistics or features; {advice}"
        if list(self.entries) == [""]:
            entry = self.entries[""]
            if entry.dtype == "object":
                entry.load()
            return f"{self._origin} holds {entry}, not (n, dim) features in floating point"
        names = ", ".join(map(repr, (*FEATURE_KEYS, "arr_0")))
        matrix = next((key for key, entry in self.entries.items() if is_features(entry) and not names_mean(key)), None)
        choose = "" if matrix is None else f"; if {matrix!r} holds the features, choose it with --key"
        return (
            f"{self._origin} holds neither 'mu' and 'sigma' nor features under one of {names}; {self._keys()}{choose}"
        )


def _flat(levels: tuple[Tree, ...], prefix: str = "") -> Iterator[tuple[str, Entry, tuple[Tree, ...]]]:
    for key, value in levels[0].items():
        if isinstance(value, Entry):
            yield prefix + key, value, levels
        else:
            yield from _flat((value, *levels), f"{prefix}{key}/")


def _joined(texts: list[str]) -> str:
    """The texts with commas, and "and" before the last."""
    return " and ".join([*filter(None, [", ".join(texts[:-1])]), *texts[-1:]])
