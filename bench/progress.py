"""Shows on a terminal how a run goes on. It redraws only when the worker speaks, never while a request is timed."""

from typing import TYPE_CHECKING, Self

from bench.weights import ResolvedModel
from results.cases import PlannedCase
from results.format import plain
from results.records import Failure, Measurement

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Quiet:
    """Says nothing but notices: for pipes and `--json`."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def notice(self, text: str) -> None:
        self._console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def preparing(self, model: ResolvedModel, step: str, done: float | None) -> None:
        pass

    def phase(self, planned: PlannedCase | None, phase: str, done: int, total: int) -> None:
        pass

    def outcome(self, planned: PlannedCase, outcome: Measurement | Failure) -> None:
        pass

    def more(self, measurements: int) -> None:
        pass


class Bars(Quiet):
    """A bar for the sweep, and one for the step in hand."""

    def __init__(self, console: "Console", total: int) -> None:
        super().__init__(console)
        self._total, self._settled = total, 0
        self._bars: Progress | None = None

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def preparing(self, model: ResolvedModel, step: str, done: float | None) -> None:
        count = "" if done is None else f"{done:.0%}"
        self._show(f"{model.name}: {step}", None if done is None else 100 * done, 100, count, moving=True)

    def phase(self, planned: PlannedCase | None, phase: str, done: int, total: int) -> None:
        self._show(f"{planned.label}: {phase}" if planned else phase, done, max(total, done), f"{done}/{total}")

    def outcome(self, planned: PlannedCase, outcome: Measurement | Failure) -> None:
        self._settled += 1
        if isinstance(outcome, Failure):
            self.notice(f"{planned.label}: {outcome.kind}: {outcome.message}")
        if self._bars:
            self._bars.update(self._sweep, completed=min(self._settled, self._total), count=f"{self._settled}/{self._total}")
            self._bars.refresh()

    def more(self, measurements: int) -> None:
        self._total += measurements
        if self._bars:
            self._bars.update(self._sweep, total=self._total, count=f"{self._settled}/{self._total}")

    def _show(self, text: str, done: float | None, total: float, count: str, *, moving: bool = False) -> None:
        """Show the step in hand; `moving` bars redraw themselves, which is only for times when nothing is measured."""
        from rich.markup import escape

        bars = self._begin(moving)
        if escape(text) != bars.tasks[1].description:
            bars.reset(self._step)
        bars.update(self._step, description=escape(text), completed=done or 0, total=None if done is None else total, count=count)
        bars.refresh()

    def _begin(self, moving: bool) -> "Progress":
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        if self._bars and self._bars.live.auto_refresh == moving:
            return self._bars
        if self._bars:
            self._bars.stop()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=self._console,
            auto_refresh=moving,
            refresh_per_second=4,
            transient=True,
        )
        self._sweep = self._bars.add_task(
            "sweep", total=self._total, completed=self._settled, count=f"{self._settled}/{self._total}"
        )
        self._step = self._bars.add_task("start", total=None, count="")
        self._bars.start()
        return self._bars
