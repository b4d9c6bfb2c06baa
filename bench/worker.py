"""The child process: loads one model, measures its cases, and says so as JSON lines on its own pipe.

The job comes as the first line on standard input; later lines are acknowledgements. When standard input closes, the
parent is gone and the worker ends, with all of its children. What libraries print goes to standard error.
"""

import contextlib
import faulthandler
import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, ConfigDict

from bench.preparing import be_first_to_go
from bench.workloads import Prompts
from results.records import FailureKind, PlannedCase


class Job(BaseModel):
    """What a worker is asked to do: one load, and its cases in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: Path
    process: int
    cases: tuple[PlannedCase, ...]
    prompts: dict[str, Prompts]
    """By `Case.workload`."""
    warmup: Prompts


class Channel:
    """Events to the parent, acknowledgements from it."""

    def __init__(self, events: TextIO, commands: TextIO) -> None:
        self._events, self._commands = events, commands
        self._lines: queue.Queue[str] = queue.Queue()

    def send(self, event: str, **facts: Any) -> None:
        self._events.write(json.dumps({"event": event, **facts}) + "\n")
        self._events.flush()

    def ask(self, event: str, **facts: Any) -> None:
        """Send an event and wait until the parent has acted on it."""
        self.send(event, **facts)
        self._lines.get()

    def first(self) -> str:
        return self._commands.readline()

    def listen(self) -> None:
        """From now on, end this process and its children as soon as the parent is gone."""
        threading.Thread(target=self._listen, daemon=True, name="parent-watch").start()

    def _listen(self) -> None:
        for line in self._commands:
            self._lines.put(line)
        end_with_children()


def end_with_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)


def main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    channel = Channel(_own_pipe(), sys.stdin)
    be_first_to_go()
    line = channel.first()
    if not line:
        return
    job = Job.model_validate_json(line)
    channel.listen()
    channel.send("hello", pid=os.getpid())
    try:
        run(job, channel)
    except Exception as error:  # noqa: BLE001 every failure of an engine is a result: it is classified, sent and stored
        traceback.print_exc()
        kind, message = classify(error)
        channel.send("failed", kind=kind, message=message)
    channel.send("bye")
    sys.stderr.flush()
    os._exit(0)


def run(job: Job, channel: Channel) -> None:
    """Load, then measure each case."""
    from bench.engines import make_engine
    from bench.engines.protocol import UnsupportedError
    from bench.measure import Instruments, calibrate, first_call_s, own_rss_reader, utc_now

    first = job.cases[0]
    channel.ask("phase", phase="load", done=0, total=1)
    with _stack_before(first.timeout_s):
        start = time.perf_counter()
        engine = make_engine(first.case.engine)
        import_s = time.perf_counter() - start
        for planned in job.cases:
            if reason := engine.refuse(planned.case):
                raise UnsupportedError(reason)
        cached = cached_share(job.folder)
        start = time.perf_counter()
        session = engine.load(job.folder, first.case)
        load_s = time.perf_counter() - start
        tools = Instruments(time.perf_counter, utc_now, own_rss_reader())
        values = {"import_s": import_s, "load_s": load_s} | ({} if cached is None else {"load_cached_share": cached})
        channel.ask("phase", phase="first call", done=0, total=1)
        values["first_call_s"] = first_call_s(session, job.warmup, first, time.perf_counter)
        values |= calibrate(time.perf_counter, tools)
    gc.collect()
    gc.freeze()
    channel.ask("loaded", values=values)
    for planned in job.cases:
        with _stack_before(planned.timeout_s):
            _measure_case(session, planned, job, tools, channel)


def _measure_case(session: Any, planned: PlannedCase, job: Job, tools: Any, channel: Channel) -> None:
    from bench.measure import count_warnings, measure

    case = planned.case
    session.reset()
    gc.collect()
    channel.ask("case_started", case_id=case.case_id, origin=(origin := time.perf_counter()))
    requests = []

    def phase(name: str, done: int, total: int) -> None:
        channel.ask("phase", phase=name, done=done, total=total)

    prompts = job.prompts[case.workload]
    for request in measure(session, planned, job.process, prompts, job.warmup, origin, tools, phase):
        requests.append(request)
        channel.ask("request", request=request.model_dump(mode="json"))
    channel.ask(
        "case_done",
        timing=session.timing,
        values=session.values(),
        warnings=[one.model_dump(mode="json") for one in count_warnings(planned, session, requests)],
    )


def classify(error: Exception) -> tuple[FailureKind, str]:
    """The kind of failure that an exception means, and one sentence with a remedy."""
    from bench.engines.protocol import UnsupportedError
    from results.errors import GemmeterError

    text = " ".join(str(error).split())[:400] or type(error).__name__
    if isinstance(error, UnsupportedError):
        return "unsupported", text
    if isinstance(error, GemmeterError):
        return "unsupported", text
    if isinstance(error, ImportError):
        return "missing_dependency", f'{text}: install it with `pip install "gemmeter[transformers]"`.'
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "oom", f"Memory ran out ({text}): choose a smaller model, dtype, length or batch."
    return "engine_error", f"The engine failed with {type(error).__name__}: {text} The stderr tail has the traceback."


def cached_share(folder: Path, probes: int = 32) -> float | None:
    """Share of the weights' files that lies in the page cache, by probing so many places in each; `None` where it can't be told."""
    if not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return None
    hits = tried = 0
    for file in folder.glob("*.safetensors"):
        size = file.stat().st_size
        descriptor = os.open(file, os.O_RDONLY)
        try:
            for probe in range(probes):
                tried += 1
                try:
                    os.preadv(descriptor, [bytearray(1)], size * probe // probes, os.RWF_NOWAIT)
                    hits += 1
                except BlockingIOError:
                    pass
                except OSError:
                    return None
        finally:
            os.close(descriptor)
    return hits / tried if tried else None


@contextlib.contextmanager
def _stack_before(timeout_s: float) -> Iterator[None]:
    """Leave the stacks of all threads on standard error shortly before the parent's deadline: why it hung."""
    faulthandler.dump_traceback_later(max(0.1, timeout_s * 0.98), file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _own_pipe() -> TextIO:
    """Standard output as the event pipe; what anything prints from now on goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return events


if __name__ == "__main__":
    main()
