"""One worker process from start to end: its events become measurements, and whatever goes wrong becomes a failure of the right kind.

The parent waits; a sampler reads the worker's memory from outside. The worker's whole tree ends with this module's call.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self, get_args

from bench.engines import support
from bench.surroundings import surroundings
from bench.worker import Job
from monitor.devices import free_memory_bytes, memory_floor_bytes, oom_kills
from monitor.processes import MARKER, end_tree
from monitor.sampler import Sampler, Usage
from results.cases import PlannedCase
from results.format import plain
from results.records import Failure, FailureKind, Measurement, Request, RowWarning, Series

WORKER = (sys.executable, "-P", "-m", "bench.worker")
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "BENCH_STORE")
WAITS = ("phase", "loaded", "case_started", "request", "requests", "case_done")
"""Events after which the worker waits until the parent has done its part: the parent sleeps while a request is timed."""
MEASURED = ("measure", "quality", "load", "train")
"""Phases in which the worker does what is counted: warm-ups are over."""
LONGEST_LINE = 2**24
BACKLOG = 100

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


class WorkerEnded(Exception):  # noqa: N818 an ending, of which some are errors
    """The worker gave no result for the case in flight."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def launch(job: Job, run_id: str, listen: Listen, outside: Outside) -> Iterator[Measurement | Failure]:
    """Run one worker over the job's cases.

    Yields:
        A measurement for each case that finished. When the worker fails, one failure for the case in flight (for every
        case of the job when it failed before the first one), and then no more: the caller starts another for the rest.

    Raises:
        KeyboardInterrupt: after yielding an `interrupted` failure for the case in flight.
    """
    with tempfile.TemporaryFile() as stderr, _Worker(job, run_id, listen, outside, stderr) as worker:
        try:
            yield from worker.measurements()
        except WorkerEnded as ended:
            worker.end()
            yield from worker.failures(ended.kind, ended.message)
        except KeyboardInterrupt:
            worker.end()
            yield from worker.failures("interrupted", "The run was interrupted: go on with `bench run --resume`.")
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
    def __init__(self, job: Job, run_id: str, listen: Listen, outside: Outside, stderr: IO[bytes]) -> None:
        self._job, self._run_id, self._listen, self._outside, self._stderr = job, run_id, listen, outside, stderr
        self._mark = uuid.uuid4().hex
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=BACKLOG)
        self._commands: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._free_at_end: int | None = None
        self._phase, self._number = "start", 0
        self._in_case = self._ended = False
        self._requests: list[Request] = []
        self._request_ids: set[str] = set()
        self._progress = (0, 0)
        self._loaded: dict[str, float] | None = None
        self._loaded_rss: int | None = None
        self._started_at = outside.now()
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
        self._sampler = Sampler(self._process.pid, self._starve, self._outside.floor_bytes, free_bytes=self._outside.free_bytes)
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

    def measurements(self) -> Iterator[Measurement]:
        self._commands.put(self._job.model_dump_json())
        deadline = time.monotonic() + self._job.cases[0].timeout_s
        while True:
            event = self._next(deadline)
            if event is None or event["event"] == "bye":
                break
            try:
                measurement = self._take(event)
            except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                raise WorkerEnded("bad_output", f"The worker sent a wrong event ({type(error).__name__}): {_fault()}") from error
            if event["event"] == "phase":
                self._listen(self._current() if self._in_case else None, self._phase, *self._progress)
            if event["event"] in WAITS:
                self._commands.put("{}")
            if event["event"] in ("case_started", "loaded", "case_done") and self._number < len(self._job.cases):
                deadline = time.monotonic() + self._job.cases[self._number].timeout_s
            if measurement:
                yield measurement
        if self._number < len(self._job.cases):
            raise self._ending()

    def failures(self, kind: FailureKind, message: str) -> Iterator[Failure]:
        before_first_case = self._loaded is None
        cases = self._job.cases if before_first_case else self._job.cases[self._number : self._number + 1]
        tail = self._tail()
        code = self._process.returncode
        for planned in cases:
            yield Failure(
                attempt_id="f" + uuid.uuid4().hex[:15],
                run_id=self._run_id,
                case_id=planned.case.case_id,
                process=self._job.process,
                started_at=self._started_at,
                kind=kind,
                phase=self._phase,
                message=message,
                exit_code=code,
                stderr_tail=tail,
                requests=tuple(self._requests),
            )

    # ---- events

    def _take(self, event: dict[str, Any]) -> Measurement | None:
        name = event["event"]
        if name == "failed":
            if event["kind"] not in get_args(FailureKind):
                raise ValueError(f"unknown kind of failure {event['kind']!r}")
            raise WorkerEnded(event["kind"], plain(str(event["message"])))
        if name == "phase":
            self._phase, self._progress = str(event["phase"]), (int(event["done"]), int(event["total"]))
            if self._phase in MEASURED and self._progress[0] == 0 and self._in_case:
                self._sampler.mark()
        elif name == "loaded":
            self._loaded = {str(key): float(value) for key, value in event["values"].items()}
            if event.get("server_pid") is not None:
                self._sampler.watch_apart(int(event["server_pid"]))
            self._sampler.begin()
            self._loaded_rss = self._sampler.end().start_rss_bytes
        elif name == "case_started":
            if self._loaded is None or event["case_id"] != self._current().case.case_id:
                raise ValueError("not the case that was asked for")
            self._origin = float(event["origin"])
            self._started_at, self._requests, self._in_case = self._outside.now(), [], True
            self._phase = "warmup"
            self._sampler.begin()
        elif name in ("request", "requests"):
            for told in event["requests"] if name == "requests" else [event["request"]]:
                request = Request.model_validate_json(json.dumps(told))
                if request.request_id in self._request_ids:
                    raise ValueError(f"request {request.request_id} twice")
                self._request_ids.add(request.request_id)
                self._requests.append(request)
        elif name == "case_done":
            if not self._in_case or not self._requests:
                raise ValueError("a case without requests")
            measurement = self._measurement(event, self._sampler.end())
            self._number, self._in_case, self._phase = self._number + 1, False, "between cases"
            self._requests = []
            return measurement
        elif name != "hello":
            raise ValueError(f"unknown event {name!r}")
        return None

    def _measurement(self, event: dict[str, Any], usage: Usage) -> Measurement:
        planned = self._current()
        values = {
            **(self._loaded or {}),
            **{str(key): float(value) for key, value in event["values"].items()},
        }
        if planned.case.target is None:
            values |= {"start_rss_bytes": float(usage.start_rss_bytes), "peak_rss_bytes": float(usage.peak_rss_bytes)}
        if (client := usage.peak_rss_bytes if planned.case.target else usage.beside_peak_rss_bytes) is not None:
            # Under load the worker tells its clients' exact peaks, which samples can miss.
            values["client_peak_rss_bytes"] = max(float(client), values.get("client_peak_rss_bytes", 0.0))
        if usage.peak_pss_bytes is not None and planned.case.target is None:
            values["peak_pss_bytes"] = float(usage.peak_pss_bytes)
        if usage.peak_device_bytes is not None:
            values["peak_device_bytes"] = float(usage.peak_device_bytes)
        if planned.estimate:
            values["estimated_bytes"] = float(planned.estimate.total_bytes)
        if planned.price_per_hour:
            values["price_per_hour"] = planned.price_per_hour
        if usage.energy_j is not None:
            values["energy_j"] = usage.energy_j
        warnings = [RowWarning.model_validate(one) for one in event["warnings"]]
        return Measurement(
            attempt_id="m" + uuid.uuid4().hex[:15],
            run_id=self._run_id,
            case_id=planned.case.case_id,
            process=self._job.process,
            started_at=self._started_at,
            timing=str(event["timing"]),
            requests=tuple(self._requests),
            values=values,
            facts={"energy_method": usage.energy_method} if usage.energy_method else {},
            warnings=tuple([*warnings, *surroundings(planned, usage, self._loaded_rss)]),
            series=(
                Series(
                    name="rss_bytes", unit="B", times_s=tuple(time - self._origin for time in usage.times), values=usage.rss_bytes
                ),
            ),
        )

    def _current(self) -> PlannedCase:
        if self._number >= len(self._job.cases):
            raise ValueError("more cases than were asked for")
        return self._job.cases[self._number]

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
            what = "The case" if self._in_case else "The load"
            seconds = self._job.cases[min(self._number, len(self._job.cases) - 1)].timeout_s
            message = f"{what} took more than {seconds:g} s: raise timeout_s, or look at the stacks in the stderr tail."
            raise WorkerEnded("timeout", message) from None
        if self._free_at_end is not None:
            raise self._ending()
        if line is None:
            return None
        try:
            event = json.loads(line)
            event["event"]
        except (ValueError, TypeError, KeyError):
            shown = plain(line[:80].decode(errors="replace")).strip()
            raise WorkerEnded("bad_output", f"The worker printed {shown!r} instead of an event: {_fault()}") from None
        return dict(event)

    def _ending(self) -> WorkerEnded:
        """Why the worker ended before its work did."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        if self._free_at_end is not None:
            free = self._free_at_end / 2**20
            message = f"Ended when {free:.0f} MiB of memory were left: choose a smaller model, dtype or length."
            return WorkerEnded("oom", message)
        code = self._process.returncode
        if code is None or code == 0:
            return WorkerEnded("bad_output", f"The worker ended without a result: {_fault()}")
        kills = self._outside.oom_kills()
        if code == -9 and kills is not None and self._kills_before is not None and kills > self._kills_before:
            return WorkerEnded("oom", "The kernel killed the worker for memory: choose a smaller model, dtype or length.")
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        return WorkerEnded("crash", f"The worker {how}: see its last lines, then `bench run --resume … --retry-failed`.")

    def _starve(self, free: int) -> None:
        """From the sampler's thread: end the worker before the machine is out of memory."""
        self._free_at_end = free
        with contextlib.suppress(OSError):
            self._process.kill()

    def _tail(self, size: int = 4096) -> str:
        self._stderr.flush()
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - size))
        return plain(self._stderr.read().decode(errors="replace")).strip()


def _fault() -> str:
    return "see the stderr tail, and report it if the engine is one of Gemmeter's own."
