"""The quick preset of the experiment gradient-penalty, and its measure of oscillation."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.gans import gradient_penalty
from benchmarks.gans.work import Work


@pytest.fixture(scope="module")
def result():
    return gradient_penalty.run(gradient_penalty.QUICK, Work())


def curve(*values: float) -> list[dict[str, float]]:
    return [
        {"update": i, "seconds": 1.0 * i, "value": value, "bias": 0.0, "stderr": 0.1, "d_loss": 1.0}
        for i, value in enumerate(values)
    ]


@pytest.mark.slow
def test_both_regimes_start_with_the_same_weights(result):
    for none, r1 in zip(result.runs["none"], result.runs["r1"], strict=True):
        assert none[0]["value"] == r1[0]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["Without the penalty", "With R1 the mean distance", "With R1 the loss"])
def test_claims(result, text):
    # Over 4 seeds: without R1 the distance fluctuates by 8.5 to 30 standard errors; with R1 and without, means of 3.7
    # to 6.4 and 10.5 to 13.4, losses of 1.38 and 1.06 to 1.19. The fluctuations (0.5 to 1.3, 1.4 to 5.4) are too close.
    sentence = next(each for each in gradient_penalty.claim(result) if each.text.startswith(text))
    assert sentence.holds, sentence.text


@pytest.mark.slow
def test_result_in_json(result):
    assert gradient_penalty.Result(**json.loads(json.dumps(asdict(result), allow_nan=False))) == result


@pytest.mark.slow
def test_texts_and_plot(result):
    r1 = gradient_penalty.oscillation(result.runs["r1"])
    assert f"{r1.best.mean():.3g}" in gradient_penalty.summary(result)
    assert len(gradient_penalty.figures(result)) == 9
    assert len(gradient_penalty.plot(result).axes) == 2


def test_fluctuation_of_independent_values_is_their_deviation():
    # The mean of n squared second differences has a relative standard error of about 2 / sqrt(n); n = 20,000, so 1.4 %,
    # and 0.7 % for its root. A steep linear trend has no second differences.
    noise = np.random.default_rng(0).normal(size=40_000)
    trend = np.linspace(1e6, 50, 40_000)
    found = gradient_penalty.oscillation([curve(*(trend + noise))])
    assert found.fluctuation[0] == pytest.approx(1.0, rel=0.03)


def test_oscillation_of_a_short_curve():
    found = gradient_penalty.oscillation([curve(9, 2, 4, 6, 4)])
    # The last half is 4, 6, 4: a second difference of -4.
    assert found.fluctuation[0] == pytest.approx(np.sqrt(16 / 6))
    assert found.rise[0] == 2.0
    assert found.best[0] == 2.0
    assert found.mean[0] == pytest.approx(14 / 3)
    assert found.relative[0] == pytest.approx(np.sqrt(16 / 6) / (14 / 3))
    assert found.stderr[0] == pytest.approx(0.1)
