"""Ollama by its native API: generate and chat, and bringing a model into memory, out of it and from the library."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from bench.engines.codecs import FolderCodec, NoCodec
from bench.engines.openai import chat_messages, plain_text
from bench.engines.protocol import Source, Support, UnsupportedError
from bench.engines.served import Codec, HttpSession
from bench.engines.server_calls import ServerCalls, ServerError
from bench.workloads import Prompt
from monitor.http import Endpoint
from monitor.stream import Dialect
from results.cases import Case, PromptFormat, Sampling
from results.record import Scalar

DEFAULT_URL = "http://127.0.0.1:11434"
KEEP_ALIVE = "10m"
"""How long the model stays after a request: it outlasts pauses, and a worker that was killed does not hold it forever."""
LOAD_TIMEOUT_S = 1800.0
UNLOAD_TIMEOUT_S = 30.0
PULL_READ_TIMEOUT_S = 300.0
LOG_PROBABILITIES_SINCE = (0, 12, 11)
GREEDY = {"temperature": 0, "seed": 0}

Progress = Callable[[str, int | None, int | None], None]
"""Told (status, bytes so far, bytes in all) of each step; the bytes are those of one layer."""


class OllamaWire:
    """How requests to one model look.

    Args:
        options: those that it was loaded with: with others it would be loaded anew.
        log_probabilities: whether to ask for those of the chosen tokens.
    """

    def __init__(self, base_url: str, model: str, options: Mapping[str, int], *, log_probabilities: bool = False) -> None:
        self._base_url, self._options = base_url.rstrip("/"), dict(options)
        self._drawn: dict[str, Any] = GREEDY
        # without `think` a model that can think does; `truncate` would cut a prompt that is too long without a word
        self._always = {"model": model, "stream": True, "think": False, "truncate": False, "keep_alive": KEEP_ALIVE}
        if log_probabilities:
            self._always["logprobs"] = True

    def endpoint(self, form: PromptFormat) -> Endpoint:
        return Endpoint(f"{self._base_url}/api/{'chat' if form == 'chat' else 'generate'}")

    def begin(self, case: Case) -> None:
        """Requests from now on draw their tokens as the case says: the order of the steps is Ollama's own."""
        self._drawn = GREEDY if case.sampling is None else drawn(case.sampling)

    def dialect(self, form: PromptFormat) -> Dialect:
        return "ollama-chat" if form == "chat" else "ollama-generate"

    def body(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], history: Sequence[str] = ()) -> bytes:
        """One request. Ollama cannot ignore the end of sequence; with `length` the model's own stop texts are off at least.

        Raises:
            UnsupportedError: a plain prompt is empty, which Ollama would take as a wish to load the model.
        """
        text = plain_text(prompt.text, history)
        if prompt.form == "plain" and not text:
            raise UnsupportedError("Ollama answers no empty prompt: take it out of the prompts.")
        options: dict[str, Any] = {**self._options, "num_predict": output_tokens, **self._drawn}
        if stop == "length":
            options["stop"] = []
        fields: dict[str, Any] = (
            {"messages": chat_messages(prompt.text, history)} if prompt.form == "chat" else {"prompt": text, "raw": True}
        )
        return json.dumps(self._always | fields | {"options": options}, ensure_ascii=False, separators=(",", ":")).encode()


def drawn(sampling: Sampling) -> dict[str, Any]:
    """Options of requests that sample; what Ollama or the model would do besides is off."""
    return {
        "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0, "min_p": 0,
        "repeat_penalty": sampling.repetition_penalty, "repeat_last_n": -1, "seed": sampling.seed,
    }  # fmt: skip


class OllamaSession(HttpSession):
    """A model in Ollama's memory.

    Args:
        keep: leave it there in the end, as it was there before.
    """

    def __init__(
        self, wire: OllamaWire, codec: Codec, calls: ServerCalls, model: str, *, keep: bool, request_timeout_s: float,
    ) -> None:  # fmt: skip
        context = (running(calls, model) or {}).get("context_length")
        super().__init__(
            wire, codec, request_timeout_s=request_timeout_s, facts={"context_tokens": float(context)} if context else {}
        )
        self._calls, self._model, self._keep = calls, model, keep

    def close(self) -> None:
        super().close()
        if not self._keep:
            with contextlib.suppress(ServerError):  # whoever has ended holds no model
                unload(self._calls, self._model)


class Ollama:
    support = Support(
        weights="served",
        packages=(),
        extra=None,
        devices=("remote",),
        quantizations=("as served",),
        log_probabilities=True,
        token_counts="usage",
        switches=frozenset({"sampling", "prompt_cache"}),
        concurrent=True,
    )

    def refuse(self, case: Case) -> str | None:
        return None

    @staticmethod
    def facts(source: Source) -> dict[str, Scalar]:
        """Version of the server; digest, format and longest context of the model, under its name: one server may have many."""
        name, url = (source.server.name, source.server.url) if source.server else ("ollama", DEFAULT_URL)
        try:
            told = model_facts(ServerCalls(url, name), source.model)
        except ServerError:  # the run will say so
            return {}
        return {fact if fact == "server_version" else f"{source.model} {fact}": value for fact, value in told.items()}

    def load(self, source: Source, case: Case) -> OllamaSession:
        """Bring the model into memory, from the beginning: one that is there already is taken out first.

        Raises:
            ServerError: Ollama does not answer, lacks the model, or cannot load it.
            UnsupportedError: the folder named as tokenizer holds none, or log-probabilities are asked of a version without them.
        """
        name, url = (source.server.name, source.server.url) if source.server else ("ollama", DEFAULT_URL)
        calls = ServerCalls(url, name)
        version = model_facts(calls, source.model)["server_version"]
        if case.log_probabilities and _is_older(str(version), LOG_PROBABILITIES_SINCE):
            raise UnsupportedError(f"Ollama {version} has no log-probabilities: update it, or leave log_probabilities out.")
        codec: Codec = FolderCodec(source.server.tokenizer) if source.server and source.server.tokenizer else NoCodec()
        options = {"num_ctx": source.context_tokens}
        was_loaded = running(calls, source.model) is not None
        if was_loaded:
            unload(calls, source.model)
        body = {"model": source.model, "stream": False, "keep_alive": KEEP_ALIVE, "options": options}
        calls.ask("/api/generate", body, timeout_s=LOAD_TIMEOUT_S)
        return OllamaSession(
            OllamaWire(url, source.model, options, log_probabilities=case.log_probabilities), codec, calls, source.model,
            keep=was_loaded, request_timeout_s=source.request_timeout_s,
        )  # fmt: skip


def full_name(model: str) -> str:
    """With the tag that a name without one means."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _is_older(version: str, wanted: tuple[int, int, int]) -> bool:
    """Builds of one's own call themselves 0.0.0, and may be of any age."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return (0, 0, 0) < found < wanted


def model_facts(calls: ServerCalls, model: str) -> dict[str, Scalar]:
    """Version of the server; digest, format and longest context of the model.

    Raises:
        ServerError: Ollama does not answer, or lacks the model.
    """
    version = calls.ask_for({"version": str}, "/api/version")["version"]
    installed = {str(one.get("model")): one for one in _models(calls, "/api/tags")}
    if full_name(model) not in installed:
        close = get_close_matches(full_name(model), installed, n=1, cutoff=0.5)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise ServerError(
            f"The server {calls.name} has no model {model!r}{hint} `ollama pull {model}` fetches it.", kind="missing_weights"
        )
    shown = calls.ask_for({}, "/api/show", {"model": model})
    info = shown.get("model_info") or {}
    return {
        "server_version": version,
        "server_model_digest": installed[full_name(model)].get("digest"),
        "server_quantization": (shown.get("details") or {}).get("quantization_level"),
        "server_model_context": info.get(f"{info.get('general.architecture')}.context_length"),
    }


def running(calls: ServerCalls, model: str) -> dict[str, Any] | None:
    """What Ollama says of the model in memory; `None` when it is not there."""
    return next((one for one in _models(calls, "/api/ps") if one.get("model") == full_name(model)), None)


def _models(calls: ServerCalls, path: str) -> list[dict[str, Any]]:
    return [one for one in calls.ask_for({"models": list}, path)["models"] if isinstance(one, dict)]


def unload(calls: ServerCalls, model: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Take the model out of memory and wait until it is out.

    Raises:
        ServerError: it is still there after half a minute.
    """
    calls.ask("/api/generate", {"model": model, "stream": False, "keep_alive": 0})
    waited, step = 0.0, 0.05
    while running(calls, model) is not None:
        if waited >= UNLOAD_TIMEOUT_S:
            raise ServerError(f"The server {calls.name} keeps {model!r} in memory: end the requests that use it and try again.")
        sleep(step)
        waited, step = waited + step, min(2 * step, 1.0)


def pull(base_url: str, model: str, progress: Progress, *, name: str = "ollama") -> None:
    """Let Ollama fetch a model from its library; what was fetched before is not fetched again.

    Raises:
        ServerError: Ollama does not answer, or the library lacks the model.
    """
    status = ""
    body = {"model": model, "stream": True}
    for step in ServerCalls(base_url, name).lines("/api/pull", body, timeout_s=PULL_READ_TIMEOUT_S):
        status = str(step.get("status", ""))
        progress(status, step.get("completed"), step.get("total"))
    if status != "success":
        raise ServerError(f"The server {name} did not finish to pull {model!r}: try again, it goes on where it stopped.")
