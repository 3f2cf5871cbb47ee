"""Names of extractors: whether two of them may mean the same network and output."""

from __future__ import annotations

import re

__all__ = ["contains", "has_name", "is_same_extractor", "may_be", "network_of"]

#: Names that other tools use for the networks that `fidfast.torch.load_extractor` loads.
_ALIASES = {"inception-2015-12-05": "inception", "dinov2": "dinov2-vitl14"}

#: The network, an output of one that has several outputs with different features, and the digest of other weights.
_NAME = re.compile(r"(.*?)(-spatial|-logits)?(-weights-[0-9a-f]+)?", re.DOTALL)


def network_of(extractor: str) -> str:
    """The name without the details of a full name, in lower case."""
    return extractor.partition("/")[0].lower()


def is_same_extractor(one: str, two: str) -> bool:
    """Whether two names mean the same network and output; their details may differ.

    Only a name of the Inception network means certain weights if it does not have their digest.
    """
    (first, digest), (second, other_digest) = (_name_and_digest(name) for name in (one, two))
    is_unknown = not (digest and other_digest) and not first.startswith("inception")
    return first == second and (digest == other_digest or is_unknown)


def has_name(asked: str, name: str) -> bool:
    """Whether two names are equal without the digests of the weights and the details."""
    return _parts(asked) == _parts(name)


def may_be(asked: str, name: str) -> bool:
    """Whether the extractor that was asked for may be that of a stored name, which may be a part of it."""
    (network, output), (other, other_output) = _parts(asked), _parts(name)
    return output == other_output and (contains(network, other) or other.startswith(f"{network}-"))


def contains(extractor: str | None, word: str) -> bool:
    """Whether the name of an extractor contains a word, without regard to case and punctuation."""
    plain, part = (re.sub(r"[\W_]", "", (text or "").lower()) for text in (extractor, word))
    return bool(part) and part in plain


def _name_and_digest(extractor: str) -> tuple[str, str]:
    name, _, digest = extractor.partition("/")[0].partition("-weights-")
    return _ALIASES.get(name, name), digest


def _parts(extractor: str) -> tuple[str, str | None]:
    match = _NAME.fullmatch(network_of(extractor))
    assert match is not None
    return match[1], match[2]
