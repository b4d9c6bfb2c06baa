"""A load's client: a child process that sends rendered requests when they are due and tells what came back.

`bench.load_clients` starts it as `python -P -m bench.client` and talks with it as `bench.client_protocol` says. Headers come
with the job, through the pipe. When standard input closes, the parent is gone or has no more use for it, and it ends.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import monitor.connection  # noqa: F401 the client would import it when the first request is due
from bench.client_pace import Heartbeat
from bench.client_protocol import Stop, Usage, line, read_job, read_phase, sent_line, usage_line
from bench.client_sending import Sending
from monitor.http import Client, Endpoint

PROGRESS_S = 0.5


def main() -> None:
    asyncio.run(_serve(sys.stdin.readline()))


async def _serve(first: str) -> None:
    if not first:
        return
    job = read_job(json.loads(first))
    process = _Process()
    client = Client(Endpoint(job.url, job.headers), time.perf_counter, job.timeout_s)
    while True:
        phase = read_phase(await process.take("phase"))
        sending = Sending(client, job, phase, time.perf_counter, process.next_turn)
        del phase
        process.sending = sending
        with _QuietGarbage():
            process.say(line("ready"))
            usage = await _run(sending, float((await process.take("go"))["start"]), process.say)
        process.sending = None
        process.say(progress_line("ended", sending))
        await process.take("report")
        for sent in sending.results():
            process.say(sent_line(sent))
        process.say(usage_line(usage))


async def _run(sending: Sending, start: float, say: Callable[[str], None]) -> Usage:
    """Run a phase, and tell what it cost until its last request was begun: waiting for answers would dilute that."""
    heartbeat = Heartbeat(time.perf_counter)
    progress = asyncio.create_task(_tell_progress(sending, say))
    cpu, wall = time.process_time(), time.perf_counter()
    whole = asyncio.create_task(sending.run(start))
    begun = asyncio.create_task(sending.nothing_more.wait())
    await asyncio.wait((whole, begun), return_when=asyncio.FIRST_COMPLETED)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    heartbeat.stop()
    begun.cancel()
    await whole
    progress.cancel()
    late = sorted(heartbeat.late_s)
    return Usage(cpu, wall, late[int(0.99 * (len(late) - 1))] if late else 0.0, late[-1] if late else 0.0)


async def _tell_progress(sending: Sending, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        say(progress_line("progress", sending))


def progress_line(event: str, sending: Sending) -> str:
    return line(event, done=sending.done, draining=sending.nothing_more.is_set(), stopped=sending.stopped)


class _QuietGarbage:
    """No collection of garbage while requests are timed, and none ever of what was there before."""

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()
        gc.unfreeze()


class _Process:
    """This process's standard input and output, and what reaches it in the midst of a phase."""

    def __init__(self) -> None:
        self.sending: Sending | None = None
        self._loop = asyncio.get_running_loop()
        self._commands: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._turns: dict[int, asyncio.Future[bytes | None]] = {}
        threading.Thread(target=self._listen, daemon=True, name="parent-watch").start()

    def say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    async def take(self, event: str) -> dict[str, Any]:
        """The next command, which must be this one."""
        command = await self._commands.get()
        if command["event"] != event:
            raise ValueError(f"expected {event!r}, found {command['event']!r}")
        return command

    async def next_turn(self, number: int, text: str) -> bytes | None:
        answer: asyncio.Future[bytes | None] = self._loop.create_future()
        self._turns[number] = answer
        self.say(line("turn", number=number, text=text))
        return await answer

    def _listen(self) -> None:
        for text in sys.stdin:
            self._loop.call_soon_threadsafe(self._act, json.loads(text))
        os._exit(0)

    def _act(self, command: dict[str, Any]) -> None:
        if command["event"] == "turn":
            if waiting := self._turns.pop(command["number"], None):
                waiting.set_result(command["body"].encode())
        elif command["event"] == "stop":
            self._stop(Stop(command["why"], command["at_once"]))
        else:
            self._commands.put_nowait(command)

    def _stop(self, stop: Stop) -> None:
        if self.sending:
            self.sending.stop(stop)
        while self._turns:
            self._turns.popitem()[1].set_result(None)


if __name__ == "__main__":
    main()
