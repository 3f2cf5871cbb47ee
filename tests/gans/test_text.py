"""The experiment with text."""

from collections import Counter

import pytest
import torch

import fidfast
from benchmarks.gans import text
from benchmarks.gans.text_networks import TextCritic, TextGenerator
from benchmarks.gans.training import Wasserstein
from benchmarks.gans.work import Work

SHAPE = {"characters": len(text.ALPHABET), "length": text.LENGTH, "width": 8, "blocks": 1}


@pytest.fixture(scope="module")
def result():
    return text.run(text.QUICK, Work())


@pytest.fixture(scope="module")
def topics():
    return text.load_text("topics")


def test_the_generators_learn(result):
    """Measured over seeds 0 and 1, after fewer updates: from 0.98 and 0.99 to 0.96 and below."""
    learns = [sentence for sentence in text.claim(result) if "falls" in sentence.text]
    assert [sentence.holds for sentence in learns] == [True, True]


def test_the_floor_is_below_all_generators(result):
    """Lines of the text itself are closer to it than those of a generator; their spread is below 0.01."""
    for n, floor in result.floor.items():
        assert 0 < min(floor) <= max(floor) < min(floor) + 0.05
        for runs in result.curves.values():
            assert max(floor) < min(point[f"jsd_{n}"] for curve in runs for point in curve)


def test_both_regimes_are_measured_after_the_same_shares_of_their_updates(result):
    for regime, updates in (("one", text.QUICK.one_rate_updates), ("two", text.QUICK.two_scales_updates)):
        (curve,) = result.curves[regime]
        assert [point["update"] for point in curve] == [updates * k // 4 for k in range(5)]
        assert len(result.lines[regime]) == 8
        assert {len(line) for line in result.lines[regime]} == {text.LENGTH}


def test_texts_of_the_report_contain_the_numbers(result):
    shown = f"{result.curves['two'][0][-1]['jsd_4']:.3f}"
    assert any(shown in row.ours for row in text.figures(result))
    assert result.lines["two"][0].strip() in text.summary(result)


def test_plot(result):
    assert len(text.plot(result).axes) == 6


def test_normalise():
    assert text.normalise("The `` State's '' 3 QUESTIONS,\nasked .") == "the state's questions, asked ."


def test_decode_inverts_batch(topics):
    torch.manual_seed(0)
    batch = topics.batch(5)
    assert batch.shape == (5, len(text.ALPHABET), text.LENGTH)
    assert torch.equal(batch.sum(1), torch.ones(5, text.LENGTH))
    assert all(line in topics.training for line in text.decode(batch))
    assert text.encode(text.decode(batch)[0]) == batch[0].argmax(0).tolist()


def test_the_parts_of_a_text_have_no_common_document(topics):
    assert all(line in topics.held_out for line in topics.lines_held_out(20))
    assert 0.02 < len(topics.held_out) / len(topics.training) < 0.5


def test_counts_equal_a_counter(topics):
    for n, counts in topics.counts().items():
        expected = Counter(topics.training[i : i + n] for i in range(len(topics.training) - n + 1))
        assert counts.num_distinct == len(expected)
        assert dict(counts.most_common()) == expected


def test_divergences_are_in_bits():
    """Half of the 4-grams are shared: with p = (1/2, 1/2, 0) and q = (1/2, 0, 1/2) the divergence is 1/2 bit."""
    reference = {4: fidfast.NgramCounts(4)}
    reference[4].update(["abcd", "wxyz"])
    assert text.divergences(["abcd", "efgh"], reference) == {"jsd_4": pytest.approx(0.5, abs=1e-15)}


def test_generator_returns_distributions():
    torch.manual_seed(0)
    lines = TextGenerator(**SHAPE, latent=text.LATENT)(torch.randn(7, text.LATENT))
    assert lines.shape == (7, len(text.ALPHABET), text.LENGTH)
    assert lines.min() > 0
    torch.testing.assert_close(lines.sum(1), torch.ones(7, text.LENGTH))


def test_critic_treats_lines_separately(topics):
    """As the penalty on the gradient of each line requires."""
    torch.manual_seed(0)
    critic, lines = TextCritic(**SHAPE), topics.batch(6)
    torch.testing.assert_close(critic(lines)[2:3], critic(lines[2:3]))
    lines.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(lines)[3], lines)
    assert gradient[3].abs().max() > 0
    assert gradient[[0, 1, 2, 4, 5]].abs().max() == 0


def test_a_large_penalty_moves_the_gradient_norm_to_1(topics):
    torch.manual_seed(0)
    critic = TextCritic(**SHAPE)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        loss = Wasserstein(penalty=1e3).discriminator(critic, topics.batch(16), topics.batch(16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
