"""Shows on a terminal how a run goes on. It redraws only when the worker speaks, never while a request is timed."""

from typing import TYPE_CHECKING, Self

from bench.weights import ResolvedModel
from results.format import plain
from results.records import Failure, Measurement, PlannedCase

if TYPE_CHECKING:
    from rich.console import Console


class Quiet:
    """Says nothing: for pipes and `--json`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def preparing(self, model: ResolvedModel, step: str, done: float | None) -> None:
        pass

    def phase(self, planned: PlannedCase | None, phase: str, done: int, total: int) -> None:
        pass

    def outcome(self, planned: PlannedCase, outcome: Measurement | Failure) -> None:
        pass


class Bars:
    """A bar for the sweep, and one for the long step in hand."""

    def __init__(self, console: "Console", total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._total, self._settled = total, 0
        self._sweep = self._progress.add_task("sweep", total=total, count=f"0/{total}")
        self._step = self._progress.add_task("start", total=None, count="")

    def __enter__(self) -> Self:
        self._progress.start()
        self._progress.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def preparing(self, model: ResolvedModel, step: str, done: float | None) -> None:
        count = "" if done is None else f"{done:.0%}"
        self._show(f"{model.name}: {step}", None if done is None else 100 * done, 100, count)

    def phase(self, planned: PlannedCase | None, phase: str, done: int, total: int) -> None:
        self._show(f"{planned.label}: {phase}" if planned else phase, done, max(total, done), f"{done}/{total}")

    def outcome(self, planned: PlannedCase, outcome: Measurement | Failure) -> None:
        self._settled += 1
        if isinstance(outcome, Failure):
            self._progress.console.print(f"{planned.label}: {outcome.kind}: {plain(outcome.message)}", markup=False, style="red")
        self._progress.update(self._sweep, completed=min(self._settled, self._total), count=f"{self._settled}/{self._total}")
        self._progress.refresh()

    def _show(self, text: str, done: float | None, total: float, count: str) -> None:
        from rich.markup import escape

        self._progress.update(
            self._step, description=escape(text), completed=done or 0, total=None if done is None else total, count=count
        )
        self._progress.refresh()
