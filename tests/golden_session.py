"""A session with the golden server, for tests of load: each prompt's text is the script of its answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from golden_server import GoldenServer, Script, body

from bench.engines.protocol import Clock, Generation
from bench.workloads import Prompt, Prompts
from monitor.http import Endpoint
from monitor.stream import Dialect
from results.cases import Case, PromptFormat

KEY = "sk-golden-0123456789"
PROMPTS = Prompts(name="golden", prompts=("one", "two", "three"))
WARMUP = Prompts(name="warm", prompts=("warm",))


class GoldenSession:
    """Both `Session` and `Served`.

    Args:
        script: of the answer to the n-th body that is asked for; its id is set to the prompt's text.
    """

    timing = "perf_counter"
    server_pid = None

    def __init__(
        self, server: GoldenServer | None, script: Callable[[int], Script] = lambda _: Script(), url: str | None = None
    ) -> None:
        self._server, self._script, self._url = server, script, url
        self.bodies: list[tuple[str, tuple[str, ...]]] = []
        """(prompt, history) of each body."""
        self.broken: str | None = None

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        raise AssertionError("a load asks through its clients")

    def recount(self, text: str) -> int | None:
        return text.count(" ")

    def values(self) -> dict[str, float]:
        return {}

    def begin(self, case: Case) -> None: ...

    def close(self) -> None: ...

    def endpoint(self, form: PromptFormat) -> Endpoint:
        url = self._url or (self._server.chat_url if self._server else "")
        return Endpoint(url, {"Authorization": f"Bearer {KEY}"})

    def dialect(self, form: PromptFormat) -> Dialect:
        return "openai-chat"

    def body(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], history: Sequence[str] = ()) -> bytes:
        script = self._script(len(self.bodies))
        self.bodies.append((prompt.text, tuple(history)))
        return body(replace(script, id=prompt.text))

    def alive(self) -> str | None:
        return self.broken
