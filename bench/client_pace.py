"""Time inside a client: a pacer that is late by less than an event loop's timers, and a heartbeat that tells how late the loop is."""

import asyncio
import threading
from collections.abc import Callable, Sequence

Clock = Callable[[], float]

BEAT_S = 0.01


class Pacer:
    """Calls back in the event loop at each of the times, from a thread that sleeps between them.

    The loop's own timers are those of epoll, which rounds up to a millisecond; a lock with a timeout is some 50 µs late, and
    neither spins.
    """

    def __init__(self, times: Sequence[float], due: Callable[[], object], clock: Clock) -> None:
        self._times, self._due, self._clock = times, due, clock
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="pacer")
        self._thread.start()

    def stop(self) -> None:
        """No more calls, apart from those that the loop was already given."""
        self._stop.set()

    def _run(self) -> None:
        for time in self._times:
            if self._stop.wait(max(0.0, time - self._clock())):
                return
            self._loop.call_soon_threadsafe(self._due)


class Heartbeat:
    """Wants to beat every 10 ms; one long stall makes as many late beats as it swallowed."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._loop = clock, asyncio.get_running_loop()
        self.late_s: list[float] = []
        self._due = clock() + BEAT_S
        self._handle = self._loop.call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        now = self._clock()
        while self._due <= now:
            self.late_s.append(now - self._due)
            self._due += BEAT_S
        self._handle = self._loop.call_later(self._due - now, self._beat)

    def stop(self) -> None:
        self._handle.cancel()
        self._beat()
        self._handle.cancel()
