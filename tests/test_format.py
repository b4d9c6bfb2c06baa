"""Numbers are shown as they are, and text from outside cannot speak to the terminal."""

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.format import moment, number, percent, plain, points, quantity, scale


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1.0, "1"),
        (0.04567, "0.0457"),
        (99.96, "100"),
        (999.6, "1000"),
        (1234.4, "1234"),
        (10_000_000, "10000000"),
        (-1.5, "-1.5"),
        (0.00001, "0.00001"),
        (1.23456e-7, "0.000000123"),
        (-1e-12, "-0.000000000001"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=1e-15, max_value=1e15), st.sampled_from([1, -1]))
def test_number_keeps_three_digits_and_has_no_exponent(value: float, sign: int) -> None:
    text = number(sign * value)
    assert "e" not in text
    assert float(text) == pytest.approx(sign * value, rel=0.00501)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "–"),
        (0.0, "s", "0 µs"),
        (0.0000123, "s", "12.3 µs"),
        (0.0474, "s", "47.4 ms"),
        (1.0, "s", "1 s"),
        (-0.25, "s", "-250 ms"),
        (75.0, "s", "75 s"),
        (512, "B", "512 B"),
        (1024, "B", "1 KiB"),
        (1.6e9, "B", "1.49 GiB"),
        (12.34, "tok/s", "12.3 tok/s"),
        (0.8, "score", "0.8"),
        (0.5, "share", "0.5"),
    ],
)
def test_quantity(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_an_interval_is_in_the_unit_of_its_value() -> None:
    assert quantity(0.9, "s", 0.8, 1.2) == "900 ms [800, 1200]"
    assert quantity(0.9, "s", 0.8, None) == "900 ms"
    assert quantity(0.8, "score", 0.7, 0.9) == "0.8 [0.7, 0.9]"


@given(st.floats(min_value=0, max_value=1e15), st.sampled_from(["s", "B", "tok/s"]))
def test_scaling_keeps_the_value(value: float, unit: str) -> None:
    factor, name = scale(value, unit)
    assert value / factor * factor == pytest.approx(value)
    assert name in ("s", "ms", "µs", "B", "KiB", "MiB", "GiB", "tok/s")


def test_changes_are_signed_and_never_minus_zero() -> None:
    assert percent(1.05) == "+5.0 %"
    assert percent(0.5) == "-50.0 %"
    assert percent(0.99999) == "+0.0 %"
    assert percent(1.05, 1.031, 1.069) == "+5.0 % [+3.1, +6.9]"
    assert percent(2.0, 0.0, 1e300) == "+100.0 % [-100.0, +∞]"
    assert percent(1.05, None, None) == "+5.0 %"
    assert points(-0.012) == "-1.2 points"
    assert points(0.0, -0.01, 0.01) == "+0.0 points [-1.0, +1.0]"


def test_moment_is_local_time_without_fractions() -> None:
    at = datetime(2026, 3, 1, 12, 0, 5, 999, tzinfo=UTC)
    assert moment(at) == at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://example.org\x07link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed, and the text goes on", "0;never closed, and the text goes on"),
        ("a\x00b\x08c\x7fd\x9be", "abcde"),
        ("\u202egnp.exe\u202c \u2066x\u2069", "gnp.exe x"),
        ("👩\u200d💻 Gemma ñ 你好", "👩\u200d💻 Gemma ñ 你好"),
        ("[red]not markup[/red] :smile:", "[red]not markup[/red] :smile:"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]\\\x07;m\u202e\x9b"))))
def test_plain_leaves_no_control_character_and_is_done_at_once(text: str) -> None:
    shown = plain(text)
    assert plain(shown) == shown
    kept = (char for char in shown if char not in "\n\t\u200d")
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co") for char in kept)
