"""Texts of numbers."""

import math

import pytest

from fidfast._results import digits_of_error, distance_label, value_with_error


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (12.3456, 0.0789, "12.346 ± 0.079"),
        (-0.5, 12.0, "-0 ± 12"),
        (123456.7, 4321.0, "123457 ± 4321"),
        (2.5123e54, 3.1e53, "2.51e+54 ± 3.1e+53"),
        (2.5e-20, 3.1e-22, "2.500e-20 ± 3.1e-22"),
        (0.0, 3.1e-22, "0.0e+00 ± 3.1e-22"),
        (3.0, 3.3e-17, "3.000000000000000e+00 ± 3.3e-17"),
        (12345678.0, 3.3e-9, "12345678.00000000 ± 0.0000000033"),
        (1e300, 0.5, "1.000000000000000e+300 ± 0.50"),
        (1.5, 0.0, "1.500000 ± 0.000000"),
        (1.5, math.nan, "1.500000 ± nan"),
    ],
)
def test_value_with_error(value, stderr, text):
    assert value_with_error(value, stderr) == text
    assert digits_of_error(value, stderr, "+").lstrip("+") == text.split(" ")[0]


@pytest.mark.parametrize("exponent", range(-300, 300, 20))
def test_texts_are_short_and_show_two_digits_of_the_error(exponent):
    value, stderr = 1.234567 * 10.0**exponent, 1.7 * 10.0 ** (exponent - 2)
    text = value_with_error(value, stderr)
    assert len(text) < 32
    # Half a unit of the second digit of the error.
    assert float(text.split(" ")[0]) == pytest.approx(value, abs=0.05 * 10.0 ** (exponent - 2), rel=1e-12)


@pytest.mark.parametrize(
    ("extractors", "label"),
    [
        (("inception", "inception-2015-12-05/tf1-bilinear-299"), "FID"),
        (("inception-spatial", "inception-spatial/tf1-bilinear-299"), "sFID"),
        (("inception-spatial", "inception-spatial-weights-01234567"), "spatial Fréchet distance"),
        (("inception", "inception-weights-01234567"), "Fréchet distance"),
        (("inception", "inception-spatial"), "Fréchet distance"),
        (("inception-spatial", None), "Fréchet distance"),
        (("dinov2-vitl14", "dinov2-vitl14"), "Fréchet distance"),
    ],
)
def test_the_label_of_a_distance(extractors, label):
    assert distance_label(*extractors) == label
