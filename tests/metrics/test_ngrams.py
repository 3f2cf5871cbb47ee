"""N-gram counts and their divergence: compared with `Counter` and SciPy; merging; threads; files; error messages."""

import copy
import doctest
import inspect
import json
import pickle
import random
import re
import sys
import threading
from collections import Counter
from fractions import Fraction
from importlib import resources

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import fidfast
from fidfast import NgramCounts, ngram_jsd
from fidfast._cli.commands import main

#: All code points, including lone surrogates, and a few frequent ones, so that n-grams repeat.
ANY_TEXT = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from("ab \n")), max_size=30)
TEXTS = st.lists(ANY_TEXT, max_size=8)
LEVELS = ["char", "word"]


def counted(texts, n=2, level="char", **options):
    counts = NgramCounts(n, level=level)
    counts.update(texts, **options)
    return counts


def expected_of(texts, n, level):
    return reference.ngram_counts(texts if level == "char" else [tuple(text.split()) for text in texts], n)


@given(TEXTS, st.sampled_from([1, 2, 3, 4, 6, 7, 8, 9, 13]), st.sampled_from(LEVELS))
def test_counts_equal_those_of_a_counter(texts, n, level):
    counts = counted(texts, n, level)
    expected = expected_of(texts, n, level)
    assert dict(counts.most_common()) == expected
    assert counts.num_ngrams == expected.total()
    assert counts.num_distinct == len(expected)


@given(TEXTS, st.data(), st.sampled_from([1, 3, 5]), st.sampled_from(LEVELS))
def test_batches_and_merges_in_any_order(texts, data, n, level):
    expected = counted(texts, n, level)
    shuffled = data.draw(st.permutations(texts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=4)))
    batches = [shuffled[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)]
    streamed = NgramCounts(n, level=level)
    for batch in batches:
        streamed.update(batch)
    parts = [counted(batch, n, level) for batch in batches]
    while len(parts) > 1:
        i, j = data.draw(st.permutations(range(len(parts))))[:2]
        parts[i] += parts[j]
        del parts[j]
    assert streamed == parts[0] == expected
    assert streamed.most_common() == expected.most_common()


@given(TEXTS, TEXTS, st.sampled_from([1, 2]), st.sampled_from(LEVELS))
def test_divergence_equals_that_of_scipy(texts_a, texts_b, n, level):
    texts_a, texts_b = [*texts_a, "a b c"], [*texts_b, "b c d"]
    a, b = counted(texts_a, n, level), counted(texts_b, n, level)
    jsd = ngram_jsd(a, b)
    # SciPy adds some hundred terms p log(p / m) of both signs, each with a rounding error of eps.
    expected = reference.jensen_shannon(expected_of(texts_a, n, level), expected_of(texts_b, n, level))
    assert jsd == pytest.approx(expected, abs=1e-14)
    assert 0 <= jsd <= 1
    assert jsd == ngram_jsd(b, a) == ngram_jsd(texts_a, texts_b, n=n, level=level)
    assert ngram_jsd(a, a) == ngram_jsd(a, a + a + a) == 0
    shares = [{ngram: Fraction(count, side.num_ngrams) for ngram, count in side.most_common()} for side in (a, b)]
    assert (jsd == 0) == (shares[0] == shares[1])
    assert (jsd == 1) == (not shares[0].keys() & shares[1].keys())


@given(st.lists(st.text("abc", min_size=2), min_size=1), st.lists(st.text("xyz\U0001f600", min_size=2), min_size=1))
def test_divergence_of_disjoint_texts_is_one_bit(texts_a, texts_b):
    assert ngram_jsd(texts_a, texts_b, n=2) == 1


def test_small_divergence_is_accurate():
    # For shares of 1/2 + e and 1/2 - e, and 1/2 each, it is e^2 / (2 ln 2) (1 + O(e^2)).
    half = 5 * 10**8
    a = fidfast._core.NgramCounts.from_state(1, "char", [], np.array([[97], [98]]), np.array([half + 1, half - 1]))
    b = fidfast._core.NgramCounts.from_state(1, "char", [], np.array([[97], [98]]), np.array([half, half]))
    e = 1 / (2 * half)
    assert fidfast._core.ngram_jsd(a, b) == pytest.approx(e**2 / (2 * np.log(2)), rel=1e-14)


def test_words_are_split_as_by_str_split():
    spaces = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()]
    assert len(spaces) > 20
    letters = [chr(c) for c in range(0x3100) if not chr(c).isspace()]
    counts = counted(
        ["".join(f"{a}{b}" for a in letters[i : i + 99] for b in spaces) for i in (0, 900, 8000)], 1, "word"
    )
    assert {word for (word,), _ in counts.most_common()} == {*letters[:99], *letters[900:999], *letters[8000:8099]}
    for text in ("".join(letters), "\x85".join(letters[:200]), "\u2003".join(letters)):
        assert dict(counted(text, 1, "word").most_common()) == Counter((word,) for word in text.split())


def test_sequence_of_str_is_a_text_of_these_words():
    texts = [["New York", "is", ""], ("is", "", "big"), np.array(["is", "big"]), "is big"]
    expected = Counter({("New York", "is"): 1, ("is", ""): 2, ("", "big"): 1, ("is", "big"): 2})
    assert dict(counted(texts, 2, "word").most_common()) == expected


def test_lines_of_the_language_experiments():
    """Tuples of 32 symbols, of which one is the word "unk": the same divergence as with a character in its place."""
    rng = random.Random(0)
    lines = [tuple(rng.choices([*"abcde ", "unk"], k=32)) for _ in range(200)]
    strings = ["".join("\x00" if symbol == "unk" else symbol for symbol in line) for line in lines]
    by_word, by_char = counted(lines, 4, "word"), counted(strings, 4)
    assert dict(by_word.most_common()) == reference.ngram_counts(lines, 4)
    halves = [[counted(part, 4, level) for part in (texts[:100], texts[100:])]
              for texts, level in ((lines, "word"), (strings, "char"))]  # fmt: skip
    assert ngram_jsd(*halves[0]) == ngram_jsd(*halves[1])
    assert by_word.num_distinct == by_char.num_distinct


def test_str_is_one_text():
    assert counted("banana") == counted(["banana"])
    assert counted("to be or not", level="word") == counted(["to be or not"], level="word")


def test_no_ngram_spans_two_texts():
    assert counted(["ab", "cd", "", "e"]).most_common() == [("ab", 1), ("cd", 1)]


@pytest.mark.parametrize("n", [6, 8, 13])
def test_threads_on_a_long_text(n):
    rng = random.Random(1)
    pieces = ["".join(rng.choices("etaoin shrdlu", k=1000)) for _ in range(20)]
    text = "".join(rng.choices(pieces, k=700))  # more than two pieces of 2^18 characters, one for each thread
    expected = counted([text], n, threads=1)
    assert expected.num_ngrams == len(text) - n + 1
    for threads in (2, 3, 8, None):
        assert counted([text], n, threads=threads) == expected
    assert dict(expected.most_common()) == reference.ngram_counts([text], n)


def test_generator_is_read_incrementally():
    """Texts are released once counted: at most 2^23 characters, fewer than ten texts, are held at once."""
    alive, most = 0, 0

    class Text(str):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def texts():
        nonlocal alive, most
        for _ in range(25):
            alive += 1
            most = max(most, alive)
            yield Text("ab" * 500_000)

    counts = counted(texts(), 4)
    assert most <= 10
    assert counts.most_common() == [("abab", 25 * 499_999), ("baba", 25 * 499_998)]


@pytest.mark.parametrize("level", LEVELS)
def test_updates_from_several_threads(level):
    rng = random.Random(2)
    batches = [["".join(rng.choices("abcd ", k=200)) for _ in range(20)] for _ in range(40)]
    counts = NgramCounts(3, level=level)

    def work(mine):
        for batch in mine:
            counts.update(batch)
            counts.most_common(2)

    threads = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == counted([text for batch in batches for text in batch], 3, level)


UNUSUAL = ["\ud83d\ude00 \U0001f600 \udc00", "nul\0 nul\0 \0", "caf\xe9 \u0101\uffff"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("texts", [UNUSUAL, [], ["\x00\x00\x00"]], ids=["unusual", "empty", "nul"])
def test_copies_pickles_and_files_continue(tmp_path, level, texts):
    counts = counted(texts, 2, level)
    counts.save(tmp_path / "counts")
    copies = {
        "copy": copy.copy(counts),
        "deepcopy": copy.deepcopy(counts),
        "pickle": pickle.loads(pickle.dumps(counts)),
        "file": NgramCounts.load(tmp_path / "counts.npz"),
        "sum": counts + NgramCounts(2, level=level),
    }
    for name, copied in copies.items():
        assert copied == counts, name
        assert copied.most_common() == counts.most_common()
        copied.update(["more \U0010ffff text"])
        assert copied == counts + counted(["more \U0010ffff text"], 2, level), name
        assert copied != counts
    assert counts == counted(texts, 2, level)


def test_add_reset_repr_and_equality():
    counts = counted(["banana"])
    assert repr(counts) == "NgramCounts(n=2, level='char', num_ngrams=5, num_distinct=3)"
    counts += counts
    assert counts.most_common() == [("an", 4), ("na", 4), ("ba", 2)]
    assert counts.most_common(1) == [("an", 4)]
    assert counts.most_common(0) == []
    counts.reset()
    assert counts == NgramCounts(2)
    assert (counts.num_ngrams, counts.num_distinct, counts.most_common()) == (0, 0, [])
    assert counts != NgramCounts(3)
    assert counts != NgramCounts(2, level="word")
    assert counts != "banana"
    with pytest.raises(TypeError):
        counts + 1
    with pytest.raises(TypeError):
        hash(counts)


def test_documented_memory():
    rng = random.Random(3)
    counts = counted(["".join(rng.choices("abcdefghij", k=300_000))], 6)
    # 8 bytes for the key and 8 for the count, in a table that is half to three quarters full.
    assert 16 / 0.75 <= counts.nbytes / counts.num_distinct <= 16 / 0.5
    counts = counted(["".join(map(chr, rng.choices(range(0x4E00, 0x9FA5), k=100_000)))], 6)
    assert 24 / 0.75 <= counts.nbytes / counts.num_distinct <= 24 / 0.5


def test_prose_is_closer_to_prose_than_to_code():
    folder = resources.files("sklearn.datasets.descr")
    names = ("breast_cancer", "california_housing", "covtype", "diabetes", "linnerud", "olivetti_faces")
    prose = [folder.joinpath(f"{name}.rst").read_text(encoding="utf-8") for name in names]
    code = [inspect.getsource(module) for module in (json.decoder, random, copy, inspect)]
    for n, level in ((3, "char"), (4, "char"), (1, "word")):
        halves = counted(prose[::2], n, level), counted(prose[1::2], n, level)
        assert 0 < ngram_jsd(*halves) < ngram_jsd(halves[0] + halves[1], counted(code, n, level)) < 1


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "level", "error", "message"),
    [
        (["ab", 3], "char", TypeError, "texts[1] must be a str, got int"),
        (["ab", b"ab"], "char", TypeError, "texts[1] must be a str, got bytes"),
        ([("a", "b")], "char", TypeError, "texts[0] must be a str, got tuple"),
        (["a b", None], "word", TypeError, "texts[1] must be a str or a sequence of str, got NoneType"),
        ([b"a b"], "word", TypeError, "texts[0] must be a str or a sequence of str, got bytes"),
        (["a b", ["a", 1.0]], "word", TypeError, "the words of texts[1] must be str, got float"),
        (b"ab", "char", TypeError, "texts must be an iterable of str, got bytes"),
        (7, "char", TypeError, "texts must be an iterable of str, got int"),
        (7, "word", TypeError, "texts must be an iterable of str or sequences of str, got int"),
    ],
)
def test_rejected_texts_leave_the_counts_unchanged(texts, level, error, message):
    counts = counted(["some words before"], 2, level)
    with pytest.raises(error, match=re.escape(message)):
        counts.update(texts)
    assert counts == counted(["some words before"], 2, level)


def test_failing_generator_leaves_the_counts_unchanged():
    def texts():
        for _ in range(10):
            yield "ab" * 500_000  # the first of these are counted before the error
        raise OSError("the disk is gone")

    counts = counted(["abc"])
    with pytest.raises(OSError, match="the disk is gone"):
        counts.update(texts())
    assert counts == counted(["abc"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NgramCounts(0), ValueError, "n must be from 1 to 1024, got 0"),
        (lambda: NgramCounts(-2), ValueError, "n must be from 1 to 1024, got -2"),
        (lambda: NgramCounts(5000), ValueError, "n must be from 1 to 1024, got 5000"),
        (lambda: NgramCounts(2.0), TypeError, "n must be an integer, got float"),
        (lambda: NgramCounts(2, level="byte"), ValueError, "level must be 'char' or 'word', got 'byte'"),
        (lambda: NgramCounts(2).update([], threads=0), ValueError, "threads must be at least 1, got 0"),
        (lambda: NgramCounts(2).most_common(-1), ValueError, "k must be at least 0, got -1"),
        (lambda: NgramCounts(4).merge(NgramCounts(6)), ValueError, "cannot merge counts of n=6 and n=4"),
        (
            lambda: NgramCounts(4) + NgramCounts(4, level="word"),
            ValueError,
            "cannot merge counts of level='word' and level='char'",
        ),
        (lambda: ngram_jsd(counted("abc", 2), counted("abc", 3)), ValueError, "samples has n=2, but reference has n=3"),
        (
            lambda: ngram_jsd(counted("a b c"), counted("a b c", level="word")),
            ValueError,
            "samples has level='char', but reference has level='word'",
        ),
        (
            lambda: ngram_jsd(counted("abc"), ["a", ""]),
            ValueError,
            "reference has no n-grams: all of its texts are shorter than n=2",
        ),
        (lambda: ngram_jsd(NgramCounts(4), "abcd"), ValueError, "samples has no n-grams"),
        (
            lambda: ngram_jsd("abc", "abd"),
            ValueError,
            "n is required, because neither samples nor reference is an NgramCounts",
        ),
        (
            lambda: ngram_jsd("abc", counted("abd"), n=3),
            ValueError,
            "reference has n=2 and level='char', but n=3 and level='char' are requested",
        ),
        (lambda: ngram_jsd(["ab"], ["ab", 1], n=2), TypeError, "reference: texts[1] must be a str, got int"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_files_with_other_content(tmp_path, rng, capsys):
    counted(["banana"]).save(tmp_path / "counts.npz")
    fidfast.GaussianStats(np.zeros(2), np.eye(2)).save(tmp_path / "stats.npz")
    with pytest.raises(ValueError, match=r"stats.npz holds statistics, not a checkpoint of NgramCounts"):
        NgramCounts.load(tmp_path / "stats.npz")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone.npz"):
        NgramCounts.load(tmp_path / "gone.npz")
    with pytest.raises(ValueError, match=r"counts.npz holds a checkpoint of NgramCounts, not statistics or features"):
        fidfast.fid(tmp_path / "counts.npz", tmp_path / "stats.npz")
    with pytest.raises(ValueError, match=r"counts.npz holds a checkpoint of NgramCounts, not statistics"):
        fidfast.GaussianStats.load(tmp_path / "counts.npz")
    with pytest.raises(ValueError, match=r"counts.npz holds a checkpoint of NgramCounts, not a checkpoint of Moments"):
        fidfast.Moments.load(tmp_path / "counts.npz")
    assert main(["info", "--json", str(tmp_path / "counts.npz")]) in (0, None)
    info = json.loads(capsys.readouterr().out)
    assert (info["n"], info["level"], info["num_ngrams"], info["num_distinct"]) == (2, "char", 5, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ngrams": np.array([[0, 9]], np.uint8)}, "shape (1, 2) and counts of shape (3,) at n=2"),
        ({"ngrams": np.full((3, 2), 0x110000, np.uint32)}, "holds the symbol 1114112 of 1114112"),
        ({"ngrams": np.full((3, 2), 65, np.uint8)}, "holds 3 n-grams, of which 1 are distinct"),
        ({"ngrams": np.full((3, 2), 65.0)}, "words, word_ends, ngrams and counts must be unsigned integers"),
        ({"counts": np.zeros(3, np.uint8)}, "holds the count 0"),
        ({"counts": np.full(3, 2**62, np.uint64)}, "the total number of n-grams exceeds 9223372036854775807"),
        ({"n": 3}, "at n=3"),
        ({"level": "byte"}, "level must be 'char' or 'word', got 'byte'"),
        ({"level": "word"}, "of 0"),
        ({"words": np.zeros(3, np.uint8)}, "word_ends must ascend to the number of bytes of words, 3"),
        ({"words": np.full(2, 255, np.uint8), "word_ends": np.array([2], np.uint64)}, "can't decode"),
        ({"words": np.full(2, 65, np.uint8), "word_ends": np.array([1, 2], np.uint64)}, "holds a word twice"),
        ({"counts": None}, "the state of NgramCounts has no 'counts'"),
    ],
)
def test_damaged_file_is_rejected(tmp_path, change, message):
    path = tmp_path / "counts.npz"
    counted(["banana"]).save(path)
    with np.load(path) as archive:
        entries = {**archive, **change}
    np.savez(path, **{key: value for key, value in entries.items() if value is not None})
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        NgramCounts.load(path)
    assert "counts.npz" in str(error.value)


def test_docstring_examples():
    assert doctest.testmod(sys.modules["fidfast._metrics.ngrams"]).failed == 0
