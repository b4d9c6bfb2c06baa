"""A GGUF model in this process, by the xllamacpp wheel: generating with a callback for each token."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from bench.engines.codecs import LlamaServerCodec
from bench.engines.llamacpp_depth import FILL, GO_ON, behind, filling, without
from bench.engines.openai import LOG_PROBABILITIES, drawn
from bench.engines.presets import PRESETS
from bench.engines.protocol import Clock, Generation, UnsupportedError
from bench.engines.served import generation
from bench.engines.server_calls import ServerCalls
from bench.gguf_header import GgufHeader
from bench.workloads import Prompt
from monitor.http import Exchange
from monitor.stream import read_answer
from results.cases import Case, PromptFormat

REFUSALS = {
    "exceed_context_size_error": "set workload.prompt_tokens, which the size of the context follows.",
    "invalid_request_error": "change the prompt.",
}
"""llama.cpp's errors about a request, and what to do; all others are its own failures."""


class GgufCodec(LlamaServerCodec):
    """llama.cpp would wrap a base model's chat in a template of its own choice; here it is refused."""

    def __init__(self, root_url: str, header: GgufHeader) -> None:
        super().__init__(root_url)
        self._has_chat_template = header.has_chat_template

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        if form == "chat" and not self._has_chat_template:
            raise UnsupportedError("the model has no chat template: set workload.prompt_format to plain.")
        return super().encode(text, form)


class LlamaCppSession:
    """Generates past the HTTP listener that the library always starts on loopback; that listener only tokenizes.

    Args:
        server: an `xllamacpp.Server`.
        log_probabilities: whether to ask for those of the chosen tokens.
    """

    timing = "perf_counter"

    def __init__(self, server: Any, header: GgufHeader, *, log_probabilities: bool = False) -> None:
        self._server = server
        self._always = PRESETS["llama-server"].extra | (LOG_PROBABILITIES["plain"] if log_probabilities else {})
        self._drawn: dict[str, Any] = {"temperature": 0}
        self._depth = 0
        self._facts = model_facts(server.listening_address, header)
        codec = GgufCodec(server.listening_address, header)
        self.encode, self.decode, self.recount = codec.encode, codec.decode, codec.recount

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        """
        Raises:
            UnsupportedError: llama.cpp refused the prompt: it is empty, or has no room in the context; or it did not go on behind
                what filled its KV cache.
            RuntimeError: llama.cpp failed.
        """
        body = {
            **self._always, "prompt": list(prompt.token_ids), "max_tokens": output_tokens, "stream": True,
            **self._drawn, "ignore_eos": stop == "length",
        }  # fmt: skip
        if not self._depth:
            return self._ask(body, clock)
        before = filling(prompt, self._depth)
        self._ask(body | {"prompt": list(before.token_ids)} | FILL, clock)
        whole = {"prompt": list(behind(prompt, before).token_ids)}
        return without(self._ask(body | whole | GO_ON, clock), self._depth)

    def _ask(self, body: dict[str, Any], clock: Clock) -> Generation:
        chunks = _Chunks(clock)
        sent = clock()
        self._server.handle_completions(body, chunks.take)
        return chunks.generation(sent)

    def values(self) -> dict[str, float]:
        return dict(self._facts)

    def begin(self, case: Case) -> None:
        """Take its sampling and its depth; there are no peaks that llama.cpp keeps."""
        self._drawn = drawn(PRESETS["llama-server"], case.sampling) or {"temperature": 0}
        self._depth = case.depth

    def close(self) -> None:
        self._server = None  # with the last reference the library ends its threads and its listener


class _Chunks:
    """What the callback was told, and when. The chunks are those of the HTTP server, so the same reader reads them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: list[tuple[float, dict[str, Any]]] = []
        self._raised: BaseException | None = None

    def take(self, chunk: dict[str, Any]) -> bool:
        """Whether to cancel the generation."""
        try:
            self._taken.append((self._clock(), chunk))
        except BaseException as error:  # noqa: BLE001 the library would swallow it, an interrupt included
            self._raised = error
        return self._raised is not None

    def generation(self, sent: float) -> Generation:
        if self._raised:
            raise self._raised
        for _, chunk in self._taken:
            if error := chunk.get("error"):
                raise _failure(error)
        arrivals = [(time, b"data: %b\n\n" % json.dumps(chunk).encode()) for time, chunk in self._taken]
        answer = read_answer(arrivals, "openai-completions")
        if answer.error and not answer.error.startswith("empty"):  # a model may end at once
            raise RuntimeError(f"llama.cpp's answer is not whole: {answer.error}.")
        return replace(generation(Exchange(sent=sent), answer, sent), token_source="engine", error=None)


def _failure(error: dict[str, Any]) -> Exception:
    kind, message = str(error.get("type")), str(error.get("message"))
    if kind in REFUSALS:
        return UnsupportedError(f"llama.cpp refused the prompt ({message}): {REFUSALS[kind]}")
    return RuntimeError(f"llama.cpp failed with {kind}: {message}.")


def model_facts(root_url: str, header: GgufHeader) -> dict[str, float]:
    """Metrics of a loaded model by name; llama.cpp rounds the context up."""
    props = ServerCalls(root_url).ask("/props")
    return {
        "weights_bytes": float(header.weights_bytes),
        "context_tokens": float(props["default_generation_settings"]["n_ctx"]),
    }
