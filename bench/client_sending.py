"""One phase inside a client: requests go out when they are due, and (time, bytes) of their answers are kept.

The timing path does nothing else: answers are read after the phase, unless a conversation needs them, or those that are unread
outgrow a budget: then each is read as it comes, and its bytes are forgotten.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.client_pace import Clock, Pacer
from bench.client_protocol import Item, Job, Phase, Sent, Stop
from monitor.http import Client, Exchange
from monitor.stream import Answer, read_answer

RAW_BUDGET_BYTES = 64 * 2**20
RETRY_PAUSE_S = 0.1
"""Before the first retry, doubled before each further one: a server that is too busy is not helped by a quick one."""

NextTurn = Callable[[int, str], Awaitable[bytes | None]]
"""(number of the item, last answer) → body of the next request; `None` when there shall be none."""


@dataclass
class Kept:
    """A request whose answer may still be unread."""

    item: Item
    turn: int
    scheduled: float
    exchange: Exchange
    """The last attempt's."""
    sent: float
    """For the first time."""
    connect_s: float | None
    last_sent: float
    attempts: int
    ended: float
    answer: Answer | None = None
    reads: int = 0


class Sending:
    """What one client does in one phase."""

    def __init__(self, client: Client, job: Job, phase: Phase, clock: Clock, next_turn: NextTurn) -> None:
        self._client, self._job, self._phase, self._clock, self._next_turn = client, job, phase, clock, next_turn
        self._rendered = deque((item, client.render(item.body.encode())) for item in phase.items)
        self._tasks: list[asyncio.Task[None]] = []
        self.nothing_more = asyncio.Event()
        """Set when what is in flight is the last."""
        self.stopped: str | None = None
        """Why nothing more is sent."""
        self._cut = False
        self._kept: list[Kept] = []
        self._unsent: list[Sent] = []
        self._unread_bytes = self._in_a_row = self._begun = 0

    @property
    def done(self) -> int:
        """Requests that have ended."""
        return len(self._kept)

    def stop(self, stop: Stop) -> None:
        """Nothing more is sent; what is in flight goes on to its end, or is given up."""
        self.stopped = self.stopped or stop.why
        self.nothing_more.set()
        if stop.at_once and not self._cut:
            self._cut = True
            for task in self._tasks:
                task.cancel()

    async def run(self, start: float) -> None:
        """Send all that is due from `start` on, then wait for what is in flight."""
        if self._phase.runners:
            self._tasks = [asyncio.create_task(self._runner(start, start + offset)) for offset in self._phase.runners]
        elif self._rendered:
            pacer = Pacer(
                [start + (item.at_s or 0.0) for item, _ in self._rendered], lambda: self._begin_next(start), self._clock
            )
            await self.nothing_more.wait()
            pacer.stop()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if end is not None and not (self._cut and isinstance(end, asyncio.CancelledError)):
                raise end
        if self.stopped:
            wanted = max(0, self._phase.at_least - self._begun) if self._phase.runners else len(self._rendered)
            for item, _ in list(self._rendered)[:wanted]:
                self._leave(item, 1, self._clock() if item.at_s is None else start + item.at_s, self.stopped)

    def results(self) -> list[Sent]:
        """Every request of the phase, answers read, never-sent ones included."""
        return [self._result(kept) for kept in self._kept] + self._unsent

    def _begin_next(self, start: float) -> None:
        if self.stopped:
            return
        item, request = self._rendered.popleft()
        self._tasks.append(asyncio.create_task(self._converse(item, request, start + (item.at_s or 0.0))))
        if not self._rendered:
            self.nothing_more.set()

    async def _runner(self, start: float, free: float) -> None:
        await asyncio.sleep(max(0.0, free - self._clock()))
        while not self.stopped and self._rendered:
            if self._begun >= self._phase.at_least and self._clock() - start >= self._phase.min_seconds:
                break
            self._begun += 1
            item, request = self._rendered.popleft()
            await self._converse(item, request, free)
            free = self._clock()
        self.nothing_more.set()

    async def _converse(self, item: Item, request: bytes, scheduled: float) -> None:
        for turn in range(1, item.turns + 1):
            kept = await self._request(item, turn, request, scheduled)
            if turn == item.turns:
                return
            answer = self._read(kept)
            body = None if answer.error or self.stopped else await self._next_turn(item.number, answer.text)
            if body is None or self.stopped:
                self._leave(item, turn + 1, kept.ended, self.stopped or "an earlier turn of its conversation failed")
                return
            request, scheduled = self._client.render(body), kept.ended

    async def _request(self, item: Item, turn: int, request: bytes, scheduled: float) -> Kept:
        first: Kept | None = None
        attempts = 0
        while True:
            attempts += 1
            tried = self._clock()
            exchange = await self._exchange(request)
            sent = exchange.sent if exchange.sent is not None else tried
            ended = exchange.ended if exchange.ended is not None else self._clock()
            kept = Kept(item, turn, scheduled, exchange, sent, exchange.connect_s, sent, attempts, ended)
            first = first or kept
            kept.sent, kept.connect_s = first.sent, first.connect_s
            failed = self._failed(kept)
            if not failed or attempts > self._job.retries:
                break
            try:
                await asyncio.sleep(RETRY_PAUSE_S * 2 ** (attempts - 1))
            except asyncio.CancelledError:
                if not self._cut:
                    raise
            if self.stopped:
                break
        self._keep(kept, failed)
        return kept

    async def _exchange(self, request: bytes) -> Exchange:
        """One attempt; one that is cut off has timed out."""
        try:
            return await self._client.exchange(request)
        except asyncio.CancelledError:
            if not self._cut:
                raise
            return Exchange(error=f"timeout: {self.stopped}")

    def _failed(self, kept: Kept) -> bool:
        """Whether the request failed, found without reading answers that say nothing of an error."""
        exchange = kept.exchange
        if exchange.error or (exchange.status or 0) >= 400 or not exchange.arrivals:
            return True
        return any(b"error" in data for _, data in exchange.arrivals) and self._read(kept).error is not None

    def _keep(self, kept: Kept, failed: bool) -> None:
        self._kept.append(kept)
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if self._in_a_row >= self._job.give_up_after:
            self.stop(Stop(f"{self._in_a_row} requests in a row had failed"))
        size = sum(len(data) for _, data in kept.exchange.arrivals)
        if self._unread_bytes + size > RAW_BUDGET_BYTES:
            self._read(kept)
        else:
            self._unread_bytes += size

    def _leave(self, item: Item, first_turn: int, scheduled: float, why: str) -> None:
        unsent = Answer(error=f"unsent: {why}")
        turns = range(first_turn, item.turns + 1)
        self._unsent += [Sent(item.number, turn, scheduled, scheduled, scheduled, unsent) for turn in turns]

    def _read(self, kept: Kept) -> Answer:
        """The answer; of its bytes only those that must be read again stay, as their tokens are not counted yet."""
        if kept.answer is None:
            arrivals = kept.exchange.arrivals
            answer = kept.answer = read_answer(arrivals, self._job.dialect, error=kept.exchange.error)
            kept.reads = len({time for time, _ in arrivals})
            if not answer.text or answer.token_source is not None or answer.error:
                kept.exchange.arrivals = []
        return kept.answer

    def _result(self, kept: Kept) -> Sent:
        answer = self._read(kept)
        return Sent(
            kept.item.number, kept.turn, kept.scheduled, kept.sent, kept.ended, answer, kept.connect_s, kept.attempts,
            kept.last_sent if kept.attempts > 1 else None, kept.reads, tuple(kept.exchange.arrivals),
        )  # fmt: skip
