"""The clients of a load, seen from their coordinator: started, told what to send and when, heard, and ended.

What is sent is decided by `bench.load`; what a client does with it is in `bench.client`.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from bench.client_protocol import Job, Phase, Sent, Stop, Usage, job_line, line, phase_line, read_sent, read_usage
from monitor import processes

CLIENT = (sys.executable, "-P", "-m", "bench.client")
Listen = Callable[[int, bool], Stop | None]
"""Told the number of requests done and whether the last ones are in flight; says why nothing more shall be sent."""
NextTurn = Callable[[int, str], bytes]
"""(number of the item, last answer) → body of the next request."""

START_S = 0.05
"""From `go` to the start: time for each client to hear it."""
LISTEN_S = 1.0
PATIENCE_S = 5.0


class ClientEndedError(RuntimeError):
    """A client ended before its work did.

    Attributes:
        sent: what was told of the phase, mostly by the other clients.
    """

    def __init__(self, message: str, sent: Sequence[Sent]) -> None:
        super().__init__(message)
        self.sent = sent


class LoadClients:
    """Child processes that send a load together, for all phases of a case.

    Args:
        clock: `time.perf_counter`, which the clients read too.
    """

    def __init__(self, count: int, job: Job, clock: Callable[[], float], command: Sequence[str] = CLIENT) -> None:
        self._clock = clock
        self._heard: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._gone: set[int] = set()
        try:
            for number in range(count):
                self._start(number, command)
        except OSError:
            self.close()
            raise
        self._tell(job_line(job))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all clients."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for process in self._processes:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process, thread in zip(self._processes, self._threads, strict=False):
            thread.join(PATIENCE_S)
            process.stdout.close()  # type: ignore[union-attr]

    def run(self, phases: Sequence[Phase], listen: Listen, next_turn: NextTurn) -> tuple[list[Sent], list[Usage]]:
        """One phase of all clients, from the rendering to the last answer.

        Args:
            phases: one for each client.
            listen: called once a second.

        Returns:
            The requests in the order of their scheduled times, and what each client used that had any to send.

        Raises:
            ClientEndedError: a client is gone. The others sent nothing more from then on.
        """
        for number, phase in enumerate(phases):
            self._tell(phase_line(phase), number)
        self._gather("ready")
        if self._gone:
            raise ClientEndedError(self._ending(min(self._gone)), ())
        self._tell(line("go", start=self._clock() + START_S))
        self._gather("ended", listen, next_turn)
        self._tell(line("report"))
        sent: list[Sent] = []
        told = self._gather("usage", sent=sent)
        sent.sort(key=lambda one: (one.scheduled, one.number, one.turn))
        if self._gone:
            raise ClientEndedError(self._ending(min(self._gone)), sent)
        return sent, [read_usage(told[number]) for number, phase in enumerate(phases) if phase.items]

    def peak_rss_bytes(self) -> int:
        """Sum of the highest resident memory of each; of the present one where the kernel keeps no peak."""
        pids = [process.pid for process in self._processes]
        return sum(processes.peak_rss_bytes(pid) or processes.rss_bytes(pid) for pid in pids)

    def _start(self, number: int, command: Sequence[str]) -> None:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii")
        self._processes.append(process)
        thread = threading.Thread(target=self._hear, args=(number, process), daemon=True, name=f"client-{number}")
        self._threads.append(thread)
        thread.start()

    def _hear(self, number: int, process: "subprocess.Popen[str]") -> None:
        with contextlib.suppress(ValueError):  # what is no JSON ends the conversation as the end of the pipe does
            for text in process.stdout or ():
                self._heard.put((number, json.loads(text)))
        self._heard.put((number, None))

    def _tell(self, text: str, only: int | None = None) -> None:
        for number, process in enumerate(self._processes):
            if only in (None, number):
                with contextlib.suppress(OSError):  # it is gone: `_gather` hears of it
                    process.stdin.write(text)  # type: ignore[union-attr]
                    process.stdin.flush()  # type: ignore[union-attr]

    def _gather(
        self, event: str, listen: Listen | None = None, next_turn: NextTurn | None = None,
        sent: list[Sent] | None = None,
    ) -> dict[int, dict[str, Any]]:  # fmt: skip
        """Hear the clients until each that lives has told this event; the events by client."""
        told: dict[int, dict[str, Any]] = {}
        done, draining = [0] * len(self._processes), [False] * len(self._processes)
        due = self._clock() + LISTEN_S
        while len(told.keys() | self._gone) < len(self._processes):
            with contextlib.suppress(queue.Empty):
                number, facts = self._heard.get(timeout=max(0.0, due - self._clock()) if listen else None)
                if facts is None:
                    self._gone.add(number)
                    draining[number] = True
                    self._stop(Stop("a client of the load had ended"))
                    continue
                if why := facts.get("stopped"):
                    self._stop(Stop(why))
                if facts["event"] == event:
                    told[number] = facts
                    done[number], draining[number] = facts.get("done", 0), True
                elif facts["event"] == "turn" and next_turn:
                    self._tell(
                        line("turn", number=facts["number"], body=next_turn(facts["number"], facts["text"]).decode()), number
                    )
                elif facts["event"] == "sent" and sent is not None:
                    sent.append(read_sent(facts))
                elif facts["event"] == "progress":
                    done[number], draining[number] = facts["done"], facts["draining"]
            if listen and self._clock() >= due:
                due = self._clock() + LISTEN_S
                if stop := listen(sum(done), all(draining)):
                    self._stop(stop)
        return told

    def _stop(self, stop: Stop) -> None:
        self._tell(line("stop", why=stop.why, at_once=stop.at_once))

    def _ending(self, number: int) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._processes[number].wait(PATIENCE_S)
        code = self._processes[number].poll()
        return f"A client of the load ended with code {code}."
