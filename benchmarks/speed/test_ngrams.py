"""From texts to counts of 6-grams, on all cores and on one, compared with the fastest plain Python."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import fidfast

N = 6


def brown(archive: Path) -> list[str]:
    """The 500 documents of the corpus, without the tags of their words (``word/tag``)."""
    documents = {}
    with tarfile.open(archive) as files:
        for member in files:
            if re.fullmatch(r"c[a-r]\d\d", Path(member.name).name):
                lines = files.extractfile(member).read().decode().splitlines()
                untagged = (" ".join(token.rsplit("/", 1)[0] for token in line.split()) for line in lines)
                documents[member.name] = "\n".join(line for line in untagged if line)
    return [documents[name] for name in sorted(documents)]


def random_words(size: int) -> list[str]:
    """A hundred texts of words of random letters, with frequencies of Zipf's law."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlcumwfgypbvkjxqz"))
    weights = 1 / np.arange(1, len(letters) + 1)
    words = ["".join(rng.choice(letters, length, p=weights / weights.sum())) for length in rng.poisson(5, 40_000) + 1]
    ranks = np.minimum(rng.zipf(1.2, size // 6), len(words)) - 1
    return [" ".join(words[rank] for rank in part) for part in np.array_split(ranks, 100)]


@pytest.fixture(scope="module")
def text(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """Name and texts."""
    archive = request.config.getoption("--brown")
    if archive is not None:
        return "the Brown corpus", brown(archive)
    size = 600_000 if request.config.getoption("--benchmark-disable") else 6_000_000
    return "random words (--brown FILE for the Brown corpus)", random_words(size)


def plain(texts: list[str]) -> Counter[str]:
    """A list of slices for each text, the fastest way to fill a Counter."""
    counts: Counter[str] = Counter()
    for one in texts:
        counts.update([one[i : i + N] for i in range(len(one) - N + 1)])
    return counts


def compiled(texts: list[str], threads: int | None = None) -> fidfast.NgramCounts:
    counts = fidfast.NgramCounts(N)
    counts.update(texts, threads=threads)
    return counts


@pytest.mark.benchmark(group="6-grams of 6 MB of text")
@pytest.mark.parametrize("tool", ["fidfast", "fidfast, one thread", "collections.Counter"])
def test_counting(benchmark, tool, text):  # type: ignore[no-untyped-def]
    name, texts = text
    benchmark.extra_info["text"] = name
    if tool == "collections.Counter":
        benchmark.pedantic(plain, args=(texts,), rounds=3)
        return
    threads = 1 if tool.endswith("one thread") else None
    counts = compiled(texts, threads)
    assert dict(counts.most_common()) == plain(texts)
    benchmark.extra_info["bytes_per_distinct_ngram"] = counts.nbytes / counts.num_distinct
    benchmark.pedantic(compiled, args=(texts, threads), rounds=7)
