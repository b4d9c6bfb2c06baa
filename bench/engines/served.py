"""A session with a model that answers over HTTP: its wire says what is sent where, its codec tokenizes, `monitor` sends and reads.

One request at a time; many at a time are left to `bench.load`, which asks the same session where and what to send.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from bench.engines.protocol import Clock, Generation
from bench.engines.server_calls import ServerError
from bench.engines.server_process import LAST_BREATH_S, ServerProcess
from bench.workloads import Prompt
from monitor.http import Client, Endpoint, Exchange
from monitor.secrets import answer_without_secrets
from monitor.stream import Answer, Dialect, read_answer
from results.cases import Case, PromptFormat


class Wire(Protocol):
    """What a kind of server is sent, and where; as `bench.engines.protocol.Served`."""

    def endpoint(self, form: PromptFormat) -> Endpoint: ...

    def dialect(self, form: PromptFormat) -> Dialect: ...

    def body(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], history: Sequence[str] = ()) -> bytes: ...

    def begin(self, case: Case) -> None: ...


class Codec(Protocol):
    """Who tokenizes for a server, outside timed windows; as `bench.engines.protocol.Session`."""

    can_encode: bool
    """Whether anybody can."""

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def recount(self, text: str) -> int | None: ...


class HttpSession:
    """Both `Session` and `Served`."""

    timing = "perf_counter"

    def __init__(
        self, wire: Wire, codec: Codec, *, request_timeout_s: float, server: ServerProcess | None = None,
        facts: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            server: one of ours, which is ended with the session.
            facts: metrics of the loaded model, by name.
        """
        self._wire, self._codec, self._server = wire, codec, server
        self._timeout_s, self._facts = request_timeout_s, dict(facts or {})
        self._runner = asyncio.Runner()
        self._clients: dict[tuple[PromptFormat, Clock], Client] = {}
        self.endpoint, self.dialect, self.body = wire.endpoint, wire.dialect, wire.body
        self.encode, self.decode = codec.encode, codec.decode
        self.server_pid = server.pid if server else None

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        """One request; what goes wrong at the server is the generation's `error`."""
        return self.ask(prompt, self._wire.body(prompt, output_tokens, stop), clock)

    def ask(self, prompt: Prompt, body: bytes, clock: Clock) -> Generation:
        """`generate` with a body that is there already."""
        began = clock()
        exchange = self._runner.run(self._exchange(prompt.form, body, clock))
        count = self._count if self._codec.can_encode else None
        answer = read_answer(exchange.arrivals, self._wire.dialect(prompt.form), error=exchange.error, count=count)
        answer = answer_without_secrets(answer, self._wire.endpoint(prompt.form).headers)
        if answer.error and self._server:
            self._server.ended(LAST_BREATH_S if answer.error.startswith(("connect", "disconnected")) else 0)
        return generation(exchange, answer, began)

    async def _exchange(self, form: PromptFormat, body: bytes, clock: Clock) -> Exchange:
        key = (form, clock)
        if key not in self._clients:
            self._clients[key] = Client(self._wire.endpoint(form), clock, self._timeout_s)
        client = self._clients[key]
        for _ in range(2):  # the loop stood still since the last request: first it must see which connections have ended
            await asyncio.sleep(0)
        return await client.exchange(client.render(body))

    def recount(self, text: str) -> int | None:
        try:
            return self._codec.recount(text)
        except ServerError:  # the server that could tell is gone
            return None

    def _count(self, text: str) -> int:
        return self.recount(text) or 0

    def values(self) -> dict[str, float]:
        return dict(self._facts)

    def begin(self, case: Case) -> None:
        """Tell the wire; there are no peaks on a device that a client could forget."""
        self._wire.begin(case)

    def alive(self) -> str | None:
        return self._server.ended() if self._server else None

    def close(self) -> None:
        try:
            for client in self._clients.values():
                self._runner.run(client.close())
        finally:
            self._clients.clear()
            self._runner.close()
            if self._server:
                self._server.close()


def generation(exchange: Exchange, answer: Answer, began: float) -> Generation:
    """One exchange and what its bytes said.

    Args:
        began: counts as sent where there was no connection.
    """
    sent = began if exchange.sent is None else exchange.sent
    values = dict(answer.values)
    if exchange.connect_s is not None:
        values["connect_s"] = exchange.connect_s
    if answer.first_reasoning is not None:
        values["first_reasoning_s"] = answer.first_reasoning - sent
    return Generation(
        sent=sent,
        event_times=answer.event_times,
        event_tokens=answer.event_tokens,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        text=answer.text,
        finish_reason=answer.finish_reason,
        values=values,
        first_content=answer.first_content,
        last_content=answer.last_content,
        token_source=answer.token_source,
        error=answer.error,
        uneven=answer.uneven,
    )
