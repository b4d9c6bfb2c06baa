"""One phase inside a client: requests go out when they are due, and (time, bytes) of their answers are kept.

The timing path does nothing else: answers are read after the phase, unless a conversation needs them or they outgrow a budget.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.client_pace import Clock, Pacer
from bench.client_protocol import Item, Job, Phase, Sent
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
    tried: float
    """When its last attempt began."""
    exchange: Exchange
    attempts: int
    ended: float
    answer: Answer | None = None


class Sending:
    """What one client does in one phase."""

    def __init__(self, client: Client, job: Job, phase: Phase, clock: Clock, next_turn: NextTurn) -> None:
        self._client, self._job, self._phase, self._clock, self._next_turn = client, job, phase, clock, next_turn
        self._rendered = deque((item, client.render(item.body.encode())) for item in phase.items)
        self._tasks: list[asyncio.Task[None]] = []
        self._nothing_more = asyncio.Event()
        self._kept: list[Kept] = []
        self._unsent: list[Sent] = []
        self._unread_bytes = self._in_a_row = self._begun = 0
        self._stopped: str | None = None

    @property
    def done(self) -> int:
        """Requests that have ended."""
        return len(self._kept)

    @property
    def draining(self) -> bool:
        """Whether what is in flight is the last."""
        return self._nothing_more.is_set()

    def stop(self, why: str) -> None:
        """Nothing more is sent; what is in flight goes on to its end."""
        self._stopped = self._stopped or why
        self._nothing_more.set()

    async def run(self, start: float) -> None:
        """Send all that is due from `start` on, then wait for what is in flight."""
        if self._phase.runners:
            self._tasks = [asyncio.create_task(self._runner(start, start + offset)) for offset in self._phase.runners]
        elif self._rendered:
            pacer = Pacer(
                [start + (item.at_s or 0.0) for item, _ in self._rendered], lambda: self._begin_next(start), self._clock
            )
            await self._nothing_more.wait()
            pacer.stop()
        await asyncio.gather(*self._tasks)
        if self._stopped:
            wanted = max(0, self._phase.at_least - self._begun) if self._phase.runners else len(self._rendered)
            for item, _ in list(self._rendered)[:wanted]:
                self._leave(item, 1, self._clock() if item.at_s is None else start + item.at_s, self._stopped)

    def results(self) -> list[Sent]:
        """Every request of the phase, answers read, never-sent ones included."""
        return [self._result(kept) for kept in self._kept] + self._unsent

    def _begin_next(self, start: float) -> None:
        if self._stopped:
            return
        item, request = self._rendered.popleft()
        self._tasks.append(asyncio.create_task(self._converse(item, request, start + (item.at_s or 0.0))))
        if not self._rendered:
            self._nothing_more.set()

    async def _runner(self, start: float, free: float) -> None:
        await asyncio.sleep(max(0.0, free - self._clock()))
        while not self._stopped and self._rendered:
            if self._begun >= self._phase.at_least and self._clock() - start >= self._phase.min_seconds:
                break
            self._begun += 1
            item, request = self._rendered.popleft()
            await self._converse(item, request, free)
            free = self._clock()
        self._nothing_more.set()

    async def _converse(self, item: Item, request: bytes, scheduled: float) -> None:
        for turn in range(1, item.turns + 1):
            kept = await self._request(item, turn, request, scheduled)
            if turn == item.turns:
                return
            answer = self._read(kept)
            body = None if answer.error or self._stopped else await self._next_turn(item.number, answer.text)
            if body is None or self._stopped:
                self._leave(item, turn + 1, kept.ended, self._stopped or "an earlier turn of its conversation failed")
                return
            request, scheduled = self._client.render(body), kept.ended

    async def _request(self, item: Item, turn: int, request: bytes, scheduled: float) -> Kept:
        attempts = 0
        while True:
            attempts += 1
            tried = self._clock()
            exchange = await self._client.exchange(request)
            ended = exchange.ended if exchange.ended is not None else self._clock()
            kept = Kept(item, turn, scheduled, tried, exchange, attempts, ended)
            if not self._failed(kept) or attempts > self._job.retries or self._stopped:
                break
            await asyncio.sleep(RETRY_PAUSE_S * 2 ** (attempts - 1))
        self._keep(kept)
        return kept

    def _failed(self, kept: Kept) -> bool:
        """Whether the request failed, found without reading answers that say nothing of an error."""
        exchange = kept.exchange
        if exchange.error or (exchange.status or 0) >= 400 or not exchange.arrivals:
            return True
        return any(b"error" in data for _, data in exchange.arrivals) and self._read(kept).error is not None

    def _keep(self, kept: Kept) -> None:
        self._kept.append(kept)
        self._in_a_row = self._in_a_row + 1 if self._failed(kept) else 0
        if self._in_a_row >= self._job.give_up_after:
            self.stop(f"{self._in_a_row} requests in a row had failed")
        self._unread_bytes += sum(len(data) for _, data in kept.exchange.arrivals)
        if self._unread_bytes > RAW_BUDGET_BYTES:
            self._read(kept)

    def _leave(self, item: Item, first_turn: int, scheduled: float, why: str) -> None:
        unsent = Answer(error=f"unsent: {why}")
        turns = range(first_turn, item.turns + 1)
        self._unsent += [Sent(item.number, turn, scheduled, scheduled, scheduled, unsent) for turn in turns]

    def _read(self, kept: Kept) -> Answer:
        if kept.answer is None:
            kept.answer = read_answer(kept.exchange.arrivals, self._job.dialect, error=kept.exchange.error)
        return kept.answer

    def _result(self, kept: Kept) -> Sent:
        exchange, answer = kept.exchange, self._read(kept)
        sent = exchange.sent if exchange.sent is not None else kept.tried
        unknown = answer.text and answer.token_source is None and not answer.error
        return Sent(
            kept.item.number, kept.turn, kept.scheduled, sent, kept.ended, answer, exchange.connect_s, kept.attempts,
            len({time for time, _ in exchange.arrivals}), exchange.arrivals if unknown else (),
        )  # fmt: skip
