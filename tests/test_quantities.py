"""One format for each kind of number."""

import pytest

from flops_fit.quantities import (
    count_of,
    format_bytes,
    format_count,
    format_factor,
    format_flops,
    format_interval,
    format_loss,
    format_number,
    format_percent,
    format_seconds,
)


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (format_count, 7.04e9, "7.04B"),
        (format_count, 999_950, "1M"),
        (format_count, 512, "512"),
        (format_count, None, "-"),
        (format_count, float("inf"), "-"),
        (format_flops, 1e18, "1.00e18"),
        (format_flops, 3e9, "3.00e9"),
        (format_flops, None, "-"),
        (format_loss, 2.3449, "2.345"),
        (format_loss, 2.0, "2.000"),
        (format_loss, 23456.0, "2.346e4"),
        (format_loss, None, "-"),
        (format_number, 0.4, "0.400"),
        (format_number, 460.2, "460"),
        (format_number, 5590.0, "5.59k"),
        (format_number, -1.23e-7, "-1.23e-7"),
        (format_number, 1e20, "1.00e20"),
        (format_number, None, "-"),
        (format_factor, 0.25, "0.25x"),
        (format_factor, 0.8333, "0.83x"),
        (format_factor, 0.996, "0.996x"),
        (format_factor, 1.04, "1.04x"),
        (format_factor, 3.14, "3.1x"),
        (format_factor, 8, "8x"),
        (format_factor, 13.4, "13x"),
        (format_factor, 2e6, "2.0e6x"),
        (format_percent, 0.9, "90%"),
        (format_percent, 0.995, "99.5%"),
        (format_percent, 0.0042, "0.42%"),
        (format_seconds, 42, "42 s"),
        (format_seconds, 720, "12 min"),
        (format_seconds, 12600, "3.5 h"),
        (format_seconds, None, "-"),
    ],
)
def test_each_kind_of_number_has_one_format(write, value, text):
    assert write(value) == text


def test_both_ends_of_an_interval_are_written_alike():
    assert format_interval(1.2e9, 3.4e9, format_count) == "[1.2B, 3.4B]"


@pytest.mark.parametrize(("number", "text"), [(1, "1 run"), (0, "0 runs"), (1234, "1,234 runs")])
def test_a_count_agrees_with_its_noun(number, text):
    assert count_of(number, "run") == text


@pytest.mark.parametrize(
    ("value", "text"), [(12, "12 B"), (6.92e6, "6.9 MB"), (999e6, "1 GB"), (24e9, "24 GB"), (120e9, "120 GB")]
)
def test_memory_is_written_in_decimal_units(value, text):
    assert format_bytes(value) == text
