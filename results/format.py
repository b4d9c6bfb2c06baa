"""Numbers and times as people read them. Conversion to shown units happens here and nowhere else."""

import re
import unicodedata
from datetime import datetime
from decimal import Decimal

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def scale(value: float, unit: str) -> tuple[float, str]:
    """The factor that a value of this size is divided by, and the unit it is then shown in: 0.04 s → (0.001, "ms")."""
    steps = {"s": _SECONDS, "B": _BYTES}.get(unit)
    if steps is None:
        return 1.0, unit
    return next(((factor, name) for factor, name in steps if abs(value) >= factor), steps[-1])


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in exponent form: 1234.5 → 1234, 0.04567 → 0.0457."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{Decimal(text):f}" if abs(value) < 1 else f"{value:.0f}"
    elif abs(value) >= 10**digits:
        text = f"{value:.0f}"
    return text


def quantity(value: float | None, unit: str, low: float | None = None, high: float | None = None) -> str:
    """A value with its unit and, when given, its interval in the same unit: `47.4 ms [46.9, 48.1]`, `2.5/s`; `–` when unknown."""
    if value is None:
        return "–"
    factor, name = scale(value, unit)
    interval = "" if low is None or high is None else f" [{number(low / factor)}, {number(high / factor)}]"
    shown = number(value / factor)
    if name.startswith("1/"):
        return f"{shown}{name[1:]}{interval}"
    return f"{shown}{interval}" if name in ("score", "share", "ratio", "count", "currency") else f"{shown} {name}{interval}"


def percent(ratio: float, low: float | None = None, high: float | None = None) -> str:
    """A ratio as a signed change, with its interval when given: 1.05 → `+5.0 %`, or `+5.0 % [+3.1, +6.9]`."""
    return _signed(100 * (ratio - 1), "%", *(None if end is None else 100 * (end - 1) for end in (low, high)))


def points(difference: float, low: float | None = None, high: float | None = None) -> str:
    """A difference of two scores in hundredths, with its interval when given: -0.012 → `-1.2 points`."""
    return _signed(100 * difference, "points", *(None if end is None else 100 * end for end in (low, high)))


def _signed(value: float, unit: str, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" [{_change(low)}, {_change(high)}]"
    return f"{_change(value)} {unit}{interval}"


def _change(value: float) -> str:
    return f"{value:+z.1f}" if value < 1e6 else "+∞"


def moment(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


def plain(text: str) -> str:
    """Text from a model or a child process, safe for a terminal: no escape sequences, control or bidi characters."""
    kept = _ESCAPES.sub("", text)
    return "".join(
        char for char in kept if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co") or char == "\u200d"
    )
