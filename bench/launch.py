"""One worker process from start to end: its events become measurements, and whatever goes wrong becomes a failure of the right kind.

The parent waits; a sampler reads the worker's memory from outside. The worker's whole tree ends with this module's call. What
events mean is left to `bench.worker_events`, what endings mean to `bench.endings`.
"""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

import psutil

from bench.channel import GO_ON, STOP
from bench.endings import FAULT, INTERRUPTED, WorkerEnded, exited, late, over_limit, starved
from bench.engines import support
from bench.worker import Job
from bench.worker_events import WAITS, WorkerEvents
from monitor.devices import free_memory_bytes, memory_floor_bytes, oom_kills
from monitor.processes import MARKER, end_tree, tree
from monitor.sampler import Sampler
from results.cases import PlannedCase
from results.format import plain
from results.records import Failure, Measurement

WORKER = (sys.executable, "-P", "-m", "bench.worker")
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "BENCH_STORE", "PGPASSWORD")
RENEWS = ("hello", "case_started", "loaded", "case_done", "refused")
"""Events from which on the load, or the next case, has its whole time."""
LONGEST_LINE = 2**24
BACKLOG = 100
TAIL_BYTES, WORDS_BYTES = 2**12, 2**16
"""Of standard error: what a failure keeps, and what is searched for its reason, which may stand above a long stack."""
WIND_UP_S = 2.0
"""For which an interrupted worker may still hand over the requests of its load."""

Listen = Callable[[PlannedCase | None, str, int, int], None]
"""(case in flight, phase, requests done, requests at the least)."""


@dataclass(frozen=True)
class Outside:
    """What a launch touches beyond the worker; tests pass their own."""

    command: Sequence[str] = WORKER
    floor_bytes: int = field(default_factory=memory_floor_bytes)
    free_bytes: Callable[[], int] = free_memory_bytes
    oom_kills: Callable[[], int | None] = oom_kills
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    logs: Path | None = None
    """A folder that keeps what servers of ours wrote."""


def launch(job: Job, run_id: str, listen: Listen, outside: Outside) -> Generator[Measurement | Failure, None, None]:
    """Run one worker over the job's cases.

    Yields:
        A measurement for each case that finished, a failure for each that the engine refused. When the worker fails, one failure
        for the case in flight (when it failed before the first one, for every case that could not be loaded), and then no more:
        the caller starts another for the rest.

    Raises:
        KeyboardInterrupt: after yielding an `interrupted` failure for the case in flight.
    """
    with tempfile.TemporaryFile() as stderr, _Worker(job, run_id, outside, stderr) as worker:
        try:
            yield from worker.outcomes(listen)
        except WorkerEnded as ended:
            worker.end()
            yield from worker.failures(ended)
        except KeyboardInterrupt:
            yield from worker.wind_up()
            worker.end()
            yield from worker.failures(WorkerEnded("interrupted", INTERRUPTED))
            raise
        finally:
            worker.end()
            if outside.logs and support(job.cases[0].case.engine).starts_server:
                keep_log(stderr, outside.logs / f"{job.process}-{job.cases[0].case.config_id}.log")


def keep_log(log: IO[bytes], target: Path) -> None:
    """Add a log to a file; a full disk costs the log and nothing else."""
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        log.seek(0)
        with target.open("ab") as kept:
            shutil.copyfileobj(log, kept)


class _Worker:
    def __init__(self, job: Job, run_id: str, outside: Outside, stderr: IO[bytes]) -> None:
        self._job, self._run_id, self._outside, self._stderr = job, run_id, outside, stderr
        self._mark = uuid.uuid4().hex
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=BACKLOG)
        self._commands: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ended_by: WorkerEnded | None = None
        self._ended = False
        self._said = 0
        self._kills_before = outside.oom_kills()

    def __enter__(self) -> Self:
        threads = self._job.cases[0].case.threads
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
        environment |= {MARKER: self._mark, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            self._outside.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._sampler = Sampler(
            self._process.pid, self._starve, self._outside.floor_bytes, free_bytes=self._outside.free_bytes, exceeded=self._exceed
        )
        limits = [planned.memory_limit_bytes for planned in self._job.cases]
        self._sampler.limit_bytes = None if None in limits else max(one for one in limits if one is not None)
        self._events = WorkerEvents(
            self._job, self._run_id, self._sampler, self._outside.now, self._last_words, self._kernel_killed
        )  # fmt: skip
        self._sampler.__enter__()
        threading.Thread(target=self._read, daemon=True, name="worker-events").start()
        threading.Thread(target=self._write, daemon=True, name="worker-commands").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()

    def end(self) -> None:
        """End the worker and all that it ever started; asked again after an interruption, it begins again."""
        if self._ended:
            return
        self._sampler.__exit__()
        root = self._process.pid if self._process.poll() is None else None
        end_tree(root, self._mark, self._sampler.seen)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._ended = True
        self._commands.put(None)

    def outcomes(self, listen: Listen) -> Iterator[Measurement | Failure]:
        events = self._events
        self._commands.put(self._job.model_dump_json())
        deadline = time.monotonic() + self._job.cases[0].timeout_s
        while (event := self._next(deadline)) is not None and event["event"] != "bye":
            outcome = self._take(event)
            if event["event"] == "phase":
                listen(events.in_hand, events.phase, *events.progress)
            if event["event"] in RENEWS and events.left:
                deadline = time.monotonic() + events.left[0].timeout_s
            if outcome:
                yield outcome
        if events.left:
            raise self._ending()

    def failures(self, ended: WorkerEnded) -> Iterator[Failure]:
        tail = plain(self._read_stderr(TAIL_BYTES)).strip()
        yield from self._events.failures(ended.kind, ended.message, self._process.returncode, tail)

    def wind_up(self) -> Iterator[Measurement | Failure]:
        """Let a worker that tells the requests of a load only at its end tell those that it has."""
        planned = self._events.in_hand
        if planned is None or planned.case.load is None:
            return
        self._commands.put(STOP)
        deadline = time.monotonic() + WIND_UP_S
        with contextlib.suppress(WorkerEnded):  # it says at its end that it was stopped
            while event := self._next(deadline):
                if outcome := self._take(event):
                    yield outcome

    def _take(self, event: dict[str, Any]) -> Measurement | Failure | None:
        try:
            outcome = self._events.take(event)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise WorkerEnded("bad_output", f"The worker sent a wrong event ({type(error).__name__}): {FAULT}") from error
        if event["event"] in ("phase", "case_started"):
            self._said = os.fstat(self._stderr.fileno()).st_size
        if event["event"] in ("loaded", "case_done", "refused") and self._events.is_loaded and self._events.left:
            self._sampler.limit_bytes = self._events.left[0].memory_limit_bytes
        if event["event"] in WAITS:
            self._commands.put(GO_ON)
        return outcome

    # ---- pipes

    def _write(self) -> None:
        """In a thread of its own: a worker that does not read fills its pipe, and no deadline would hold a writer."""
        with contextlib.suppress(OSError, ValueError):  # a dead worker is noticed by the end of its events
            while self._process.stdin and (line := self._commands.get()) is not None:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while self._process.stdout and (line := self._process.stdout.readline(LONGEST_LINE)):
                self._hand_over(line)
        self._hand_over(None)

    def _hand_over(self, line: bytes | None) -> None:
        """Wait for a place, so that a worker which talks without end fills its pipe and not our memory."""
        while not self._ended:
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.5)
                return

    def _next(self, deadline: float) -> dict[str, Any] | None:
        """The next event; `None` at the end of the pipe."""
        try:
            if time.monotonic() > deadline:  # a worker that never stops talking is late too
                raise queue.Empty
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            planned = next(iter(self._events.left), self._job.cases[-1])
            raise late(self._events.doing, planned.timeout_s) from None
        if self._ended_by:
            raise self._ended_by
        if line is None:
            return None
        try:
            event = json.loads(line)
            event["event"]
        except (ValueError, TypeError, KeyError):
            shown = plain(line[:80].decode(errors="replace")).strip()
            raise WorkerEnded("bad_output", f"The worker printed {shown!r} instead of an event: {FAULT}") from None
        return dict(event)

    # ---- endings

    def _ending(self) -> WorkerEnded:
        """Why the worker ended before its work did."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        return self._ended_by or exited(self._process.returncode, self._last_words(), kernel_killed=self._kernel_killed())

    def _starve(self, free: int) -> None:
        """From the sampler's thread: end the worker before the machine is out of memory."""
        self._kill(starved(free))

    def _exceed(self, held: int, limit: int) -> None:
        """From the sampler's thread too."""
        self._kill(over_limit(held, limit))

    def _kill(self, why: WorkerEnded) -> None:
        self._ended_by = why
        for pid in tree(self._process.pid):  # a server of ours may be what holds the memory
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()

    def _kernel_killed(self) -> bool:
        kills = self._outside.oom_kills()
        return kills is not None and self._kills_before is not None and kills > self._kills_before

    def _last_words(self) -> str:
        return self._read_stderr(min(WORDS_BYTES, os.fstat(self._stderr.fileno()).st_size - self._said))

    def _read_stderr(self, size: int) -> str:
        """Its last bytes as text."""
        start = max(0, os.fstat(self._stderr.fileno()).st_size - size)
        if hasattr(os, "pread"):  # which does not move the place where the worker writes on
            return os.pread(self._stderr.fileno(), size, start).decode(errors="replace")
        self._stderr.seek(start)
        return self._stderr.read().decode(errors="replace")
