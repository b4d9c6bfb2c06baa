"""What a run says on a terminal, and that it redraws by itself only while nothing is measured."""

import io
import time

import pytest
from fakes import make_failure, make_measurement, make_planned
from rich.console import Console

from bench.progress import Bars, Quiet
from bench.weights import ResolvedModel

MODEL = ResolvedModel("gemma", "gemma", "sha256:0", None, None, None)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_bars_show_the_sweep_and_the_step() -> None:
    console = terminal()
    with Bars(console, 4) as bars:
        bars.preparing(MODEL, "converting", 0.25)
        bars.notice("Terms apply [here].")
        bars.phase(make_planned(), "measure", 1, 3)
        bars.outcome(make_planned(), make_measurement("m"))
        bars.outcome(make_planned(), make_failure("f", message="It \x1b[31mcrashed[/red]."))
    text = said(console)
    for words in (
        "gemma: converting",
        "25%",
        "Terms apply [here].",
        "tg16: measure",
        "1/3",
        "1/4",
        "2/4",
        "crash: It crashed[/red].",
    ):
        assert words in text


@pytest.mark.slow
def test_nothing_is_redrawn_while_a_case_is_measured() -> None:
    console = terminal()
    with Bars(console, 4) as bars:
        bars.preparing(MODEL, "converting", None)
        bars.phase(make_planned(), "measure", 1, 3)
        before = said(console)
        time.sleep(0.6)
        assert said(console) == before
        bars.preparing(MODEL, "converting", None)
        before = said(console)
        time.sleep(0.6)
        assert said(console) != before


@pytest.mark.parametrize("planned", [None, make_planned()])
def test_quiet_says_nothing_but_notices(planned: object) -> None:
    console = Console(file=io.StringIO())
    with Quiet(console) as quiet:
        quiet.preparing(MODEL, "converting", 0.5)
        quiet.phase(planned, "measure", 0, 1)  # type: ignore[arg-type]
        quiet.outcome(make_planned(), make_failure("f"))
        assert said(console) == ""
        quiet.notice("Terms")
    assert said(console) == "Terms\n"
