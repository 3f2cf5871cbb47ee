"""Laws of the n-gram counts and of the divergence between them, and what is said of other input."""

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
from fidfast._cli import commands as cli

#: Every code point there is, lone surrogates included; and few of them, so that n-grams come again.
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
def test_counts_are_those_of_a_counter(texts, n, level):
    counts = counted(texts, n, level)
    expected = expected_of(texts, n, level)
    assert dict(counts.most_common()) == expected
    assert counts.num_ngrams == expected.total()
    assert counts.num_distinct == len(expected)


@given(TEXTS, st.data(), st.sampled_from([1, 3, 5]), st.sampled_from(LEVELS))
def test_any_split_in_any_order_merged_in_any_tree_gives_the_same_counts(texts, data, n, level):
    whole = counted(texts, n, level)
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
    assert streamed == parts[0] == whole
    assert streamed.most_common() == whole.most_common()


@given(TEXTS, TEXTS, st.sampled_from([1, 2]), st.sampled_from(LEVELS))
def test_the_divergence_is_scipys(texts_a, texts_b, n, level):
    texts_a, texts_b = [*texts_a, "a b c"], [*texts_b, "b c d"]
    a, b = counted(texts_a, n, level), counted(texts_b, n, level)
    jsd = ngram_jsd(a, b)
    # SciPy's terms p log(p / m) cancel each other, each with a rounding of eps; some hundred of them.
    expected = reference.jensen_shannon(expected_of(texts_a, n, level), expected_of(texts_b, n, level))
    assert jsd == pytest.approx(expected, abs=1e-14)
    assert 0 <= jsd <= 1
    assert jsd == ngram_jsd(b, a) == ngram_jsd(texts_a, texts_b, n=n, level=level)
    assert ngram_jsd(a, a) == ngram_jsd(a, a + a + a) == 0
    shares = [{ngram: Fraction(count, side.num_ngrams) for ngram, count in side.most_common()} for side in (a, b)]
    assert (jsd == 0) == (shares[0] == shares[1])
    assert (jsd == 1) == (not shares[0].keys() & shares[1].keys())


@given(st.lists(st.text("abc", min_size=2), min_size=1), st.lists(st.text("xyz\U0001f600", min_size=2), min_size=1))
def test_disjoint_texts_are_one_bit_apart(texts_a, texts_b):
    assert ngram_jsd(texts_a, texts_b, n=2) == 1


def test_a_small_divergence_has_all_its_digits():
    # With shares 1/2 + e and 1/2 - e against 1/2 each, it is e^2 / (2 ln 2) (1 + O(e^2)).
    half = 5 * 10**8
    a = fidfast._core.NgramCounts.from_state(1, "char", [], np.array([[97], [98]]), np.array([half + 1, half - 1]))
    b = fidfast._core.NgramCounts.from_state(1, "char", [], np.array([[97], [98]]), np.array([half, half]))
    e = 1 / (2 * half)
    assert fidfast._core.ngram_jsd(a, b) == pytest.approx(e**2 / (2 * np.log(2)), rel=1e-14)


def test_words_are_split_where_python_splits():
    spaces = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()]
    assert len(spaces) > 20
    others = [chr(c) for c in range(0x3100) if not chr(c).isspace()]
    counts = counted(
        ["".join(f"{a}{b}" for a in others[i : i + 99] for b in spaces) for i in (0, 900, 8000)], 1, "word"
    )
    assert {word for (word,), _ in counts.most_common()} == {*others[:99], *others[900:999], *others[8000:8099]}
    for text in ("".join(others), "\x85".join(others[:200]), "\u2003".join(others)):
        assert dict(counted(text, 1, "word").most_common()) == Counter((word,) for word in text.split())


def test_a_sequence_of_str_is_a_text_of_these_words():
    texts = [["New York", "is", ""], ("is", "", "big"), np.array(["is", "big"]), "is big"]
    expected = Counter({("New York", "is"): 1, ("is", ""): 2, ("", "big"): 1, ("is", "big"): 2})
    assert dict(counted(texts, 2, "word").most_common()) == expected


def test_lines_as_the_language_experiments_have_them():
    """Tuples of 32 characters, cut off or filled up with backticks, among them the word "unk" as one symbol."""
    rng = random.Random(0)
    lines = [tuple(rng.choices([*"abcde ", "unk"], k=32)) for _ in range(200)]
    strings = ["".join("\x00" if symbol == "unk" else symbol for symbol in line) for line in lines]
    by_word, by_char = counted(lines, 4, "word"), counted(strings, 4)
    assert dict(by_word.most_common()) == reference.ngram_counts(lines, 4)
    halves = [[counted(part, 4, level) for part in (texts[:100], texts[100:])]
              for texts, level in ((lines, "word"), (strings, "char"))]  # fmt: skip
    assert ngram_jsd(*halves[0]) == ngram_jsd(*halves[1])
    assert by_word.num_distinct == by_char.num_distinct


def test_a_str_is_one_text():
    assert counted("banana") == counted(["banana"])
    assert counted("to be or not", level="word") == counted(["to be or not"], level="word")


def test_no_ngram_lies_across_two_texts():
    assert counted(["ab", "cd", "", "e"]).most_common() == [("ab", 1), ("cd", 1)]


@pytest.mark.parametrize("n", [6, 8, 13])
def test_threads_and_long_texts_count_the_same(n):
    rng = random.Random(1)
    pieces = ["".join(rng.choices("etaoin shrdlu", k=1000)) for _ in range(20)]
    text = "".join(rng.choices(pieces, k=700))  # more than two pieces of 2^18, which threads take
    expected = counted([text], n, threads=1)
    assert expected.num_ngrams == len(text) - n + 1
    for threads in (2, 3, 8, None):
        assert counted([text], n, threads=threads) == expected
    assert dict(expected.most_common()) == reference.ngram_counts([text], n)


def test_a_generator_is_read_bit_by_bit():
    """Texts are let go once counted: ten of them make more than the 2^23 characters that wait at once."""
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
def test_several_threads_lose_no_ngram(level):
    rng = random.Random(2)
    batches = [["".join(rng.choices("abcd ", k=200)) for _ in range(20)] for _ in range(40)]
    counts = NgramCounts(3, level=level)

    def work(own):
        for batch in own:
            counts.update(batch)
            counts.most_common(2)

    threads = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == counted([text for batch in batches for text in batch], 3, level)


TROUBLESOME = ["\ud83d\ude00 \U0001f600 \udc00", "nul\0 nul\0 \0", "caf\xe9 \u0101\uffff"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("texts", [TROUBLESOME, [], ["\x00\x00\x00"]], ids=["troublesome", "empty", "nul"])
def test_copies_pickles_and_files_go_on(tmp_path, level, texts):
    counts = counted(texts, 2, level)
    counts.save(tmp_path / "counts")
    copies = {
        "copy": copy.copy(counts),
        "deepcopy": copy.deepcopy(counts),
        "pickle": pickle.loads(pickle.dumps(counts)),
        "file": NgramCounts.load(tmp_path / "counts.npz"),
        "sum": counts + NgramCounts(2, level=level),
    }
    for way, other in copies.items():
        assert other == counts, way
        assert other.most_common() == counts.most_common()
        other.update(["more \U0010ffff text"])
        assert other == counts + counted(["more \U0010ffff text"], 2, level), way
        assert other != counts
    assert counts == counted(texts, 2, level)


def test_adding_resetting_and_showing():
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


def test_memory_is_what_the_docs_say():
    rng = random.Random(3)
    counts = counted(["".join(rng.choices("abcdefghij", k=300_000))], 6)
    # 8 bytes of key and 8 of count in a table of which a half to three quarters are in use.
    assert 16 / 0.75 <= counts.nbytes / counts.num_distinct <= 16 / 0.5
    counts = counted(["".join(map(chr, rng.choices(range(0x4E00, 0x9FA5), k=100_000)))], 6)
    assert 24 / 0.75 <= counts.nbytes / counts.num_distinct <= 24 / 0.5


def test_prose_is_nearer_to_prose_than_to_code():
    folder = resources.files("sklearn.datasets.descr")
    names = ("breast_cancer", "california_housing", "covtype", "diabetes", "linnerud", "olivetti_faces")
    prose = [folder.joinpath(f"{name}.rst").read_text(encoding="utf-8") for name in names]
    code = [inspect.getsource(module) for module in (json.decoder, random, copy, inspect)]
    for n, level in ((3, "char"), (4, "char"), (1, "word")):
        halves = counted(prose[::2], n, level), counted(prose[1::2], n, level)
        assert 0 < ngram_jsd(*halves) < ngram_jsd(halves[0] + halves[1], counted(code, n, level)) < 1


# What is said of other input -----------------------------------------------------------------------------------------


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
def test_what_is_no_text_is_refused_and_changes_nothing(texts, level, error, message):
    counts = counted(["some words before"], 2, level)
    with pytest.raises(error, match=re.escape(message)):
        counts.update(texts)
    assert counts == counted(["some words before"], 2, level)


def test_a_generator_that_fails_changes_nothing():
    def texts():
        for _ in range(10):
            yield "ab" * 500_000  # the first of them have been counted by then
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
        (lambda: NgramCounts(2.0), TypeError, "'float' object cannot be interpreted as an integer"),
        (lambda: NgramCounts(2, level="byte"), ValueError, "level must be 'char' or 'word', got 'byte'"),
        (lambda: NgramCounts(2).update([], threads=0), ValueError, "threads must be at least 1, got 0"),
        (lambda: NgramCounts(2).most_common(-1), ValueError, "k must be at least 0, got -1"),
        (lambda: NgramCounts(4).merge(NgramCounts(6)), ValueError, "cannot merge counts of n=6 and n=4"),
        (
            lambda: NgramCounts(4) + NgramCounts(4, level="word"),
            ValueError,
            "cannot merge counts of level='word' and level='char'",
        ),
        (lambda: ngram_jsd(counted("abc", 2), counted("abc", 3)), ValueError, "a has n=2, but b has n=3"),
        (
            lambda: ngram_jsd(counted("a b c"), counted("a b c", level="word")),
            ValueError,
            "a has level='char', but b has level='word'",
        ),
        (
            lambda: ngram_jsd(counted("abc"), ["a", ""]),
            ValueError,
            "b has no n-grams: all of its texts are shorter than n=2",
        ),
        (lambda: ngram_jsd(NgramCounts(4), "abcd"), ValueError, "a has no n-grams"),
        (lambda: ngram_jsd("abc", "abd"), ValueError, "n is not given, and neither a nor b is an NgramCounts"),
        (
            lambda: ngram_jsd("abc", counted("abd"), n=3),
            ValueError,
            "b has n=2 and level='char', but n=3 and level='char' are asked for",
        ),
        (lambda: ngram_jsd(["ab"], ["ab", 1], n=2), TypeError, "b: texts[1] must be a str, got int"),
    ],
)
def test_errors_name_the_argument_and_both_numbers(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_counts_are_no_statistics_and_statistics_no_counts(tmp_path, rng, capsys):
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
    assert cli.main(["info", "--json", str(tmp_path / "counts.npz")]) in (0, None)
    known = json.loads(capsys.readouterr().out)
    assert (known["n"], known["level"], known["num_ngrams"], known["num_distinct"]) == (2, "char", 5, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ngrams": np.array([[0, 9]], np.uint8)}, "shape (1, 2) and counts of shape (3,) at n=2"),
        ({"ngrams": np.full((3, 2), 0x110000, np.uint32)}, "holds the symbol 1114112 of 1114112"),
        ({"ngrams": np.full((3, 2), 65, np.uint8)}, "holds 3 n-grams, of which 1 are distinct"),
        ({"ngrams": np.full((3, 2), 65.0)}, "n-gram counts that are no unsigned integers"),
        ({"counts": np.zeros(3, np.uint8)}, "holds the count 0"),
        ({"counts": np.full(3, 2**62, np.uint64)}, "the total number of n-grams exceeds 9223372036854775807"),
        ({"n": 3}, "at n=3"),
        ({"level": "byte"}, "level must be 'char' or 'word', got 'byte'"),
        ({"level": "word"}, "of 0"),
        ({"words": np.zeros(3, np.uint8)}, "words that do not end where their 3 bytes do"),
        ({"words": np.full(2, 255, np.uint8), "word_ends": np.array([2], np.uint64)}, "can't decode"),
        ({"words": np.full(2, 65, np.uint8), "word_ends": np.array([1, 2], np.uint64)}, "holds a word twice"),
        ({"counts": None}, "the state of NgramCounts is damaged: 'counts'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = tmp_path / "counts.npz"
    counted(["banana"]).save(path)
    with np.load(path) as archive:
        entries = {**archive, **change}
    np.savez(path, **{key: value for key, value in entries.items() if value is not None})
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        NgramCounts.load(path)
    assert "counts.npz" in str(error.value)


def test_docstring_examples():
    assert doctest.testmod(fidfast.ngrams).failed == 0
