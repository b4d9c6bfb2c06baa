"""What servers say in one event of a streamed answer, and in their closing report. How events are framed is left to
`monitor.framing`, what they add up to to `monitor.stream`.

llama.cpp's clock of decoding starts when the first token is there, so its n tokens lie in n - 1 gaps; Ollama passes that time
on (its own runners start at the same moment, but for the one on MLX, which puts the first token's step into it).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from monitor.framing import Arrivals, StreamError, excerpt, json_lines, server_sent_events

Dialect = Literal["openai-chat", "openai-completions", "ollama-chat", "ollama-generate"]

MAX_COUNT = 2**31
"""Anything above is no count of tokens."""
MAX_FIGURE = 1e18
"""Nanoseconds of some thirty years; anything above is no time."""
UNTOLD = -9999.0
"""OpenAI's log-probability of a token that it tells none of, and vLLM's of an impossible one."""


class Event(NamedTuple):
    content: str = ""
    reasoning: str = ""
    finish: str | None = None
    """Why the answer ends here, in the server's words."""
    counted: int | None = None
    """Output tokens up to here, where the server says so in every event."""
    done: bool = False
    """Whether nothing can follow."""
    log_probabilities: Sequence[float | None] = ()
    """Of the tokens that came with it, in nats, where the server tells them; `None` is one that is no such number."""


class Totals(NamedTuple):
    prompt_tokens: int | None
    output_tokens: int | None
    values: dict[str, float]
    """Server-side figures by metric name."""
    reasoning_tokens: int = 0
    """Output tokens that the server says were thoughts, which it may keep to itself."""


Report = dict[str, Any]
"""The latest of what a server said about the whole request."""


class Grammar(NamedTuple):
    frames: Callable[[Arrivals], Iterator[tuple[float, bytes]]]
    event: Callable[[dict[str, Any], Report], Event]
    """What one object says; figures about the whole request go into the report."""
    totals: Callable[[Report], Totals]


def _openai(field: Literal["delta", "text"]) -> Callable[[dict[str, Any], Report], Event]:
    def event(chunk: dict[str, Any], report: Report) -> Event:
        if chunk.get("error") or chunk.get("object") == "error":
            raise StreamError(f"server_error: {_message(chunk)}")
        counted = None
        for name, count in (("timings", "predicted_n"), ("usage", "completion_tokens")):
            figures = chunk.get(name)
            if type(figures) is dict:
                report[name] = figures
                counted = _count(figures.get(count)) or counted
        choices = chunk.get("choices")
        if not choices:  # the closing report: its count is no token that comes now
            return Event()
        choice = choices[0] if type(choices) is list else None
        if type(choice) is not dict or ("message" in choice and "delta" not in choice):
            raise StreamError("bad_stream: an answer that is not streamed")
        finish = _word(choice.get("finish_reason"))
        said, told = choice.get(field), choice.get("logprobs")
        log_probabilities = _log_probabilities(told) if told else ()
        if field == "text":
            return Event(_text(said), "", finish, counted, False, log_probabilities)
        if type(said) is not dict:
            return Event("", "", finish, counted, False, log_probabilities)
        reasoning = said.get("reasoning_content") or said.get("reasoning")
        return Event(_text(said.get("content")), _text(reasoning), finish, counted, False, log_probabilities)

    return event


def _openai_totals(report: Report) -> Totals:
    usage, timings = report.get("usage", {}), report.get("timings", {})
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    cache_n, prompt_n, predicted_n = (_count(timings.get(name)) for name in ("cache_n", "prompt_n", "predicted_n"))
    prompt = _count(usage.get("prompt_tokens"))
    if prompt is None and prompt_n is not None:
        prompt = prompt_n + (cache_n or 0)
    drafted, accepted = _count(timings.get("draft_n")), _count(timings.get("draft_n_accepted"))
    decode_s = _seconds(timings, "predicted_ms", 1e3)
    values = {
        "accepted_draft_share": accepted / drafted if drafted and accepted is not None else None,
        "cached_prompt_tokens": cache_n if cached is None else cached,
        "server_prefill_s": _seconds(timings, "prompt_ms", 1e3),
        "server_decode_s": decode_s,
        "server_decode_tps": _decode_tps(predicted_n, decode_s),
    }
    output = _count(usage.get("completion_tokens")) or predicted_n or None
    return Totals(prompt or None, output, _known(values), reasoning or 0)


def _ollama(field: Literal["message", "response"]) -> Callable[[dict[str, Any], Report], Event]:
    def event(line: dict[str, Any], report: Report) -> Event:
        if line.get("error"):
            raise StreamError(f"server_error: {_message(line)}")
        done = line.get("done") is True
        if done:
            report.update(line)
        said = line.get("message") if field == "message" else line
        finish, told = _word(line.get("done_reason")), line.get("logprobs")
        log_probabilities = _log_probabilities(told) if told else ()
        if type(said) is not dict:
            return Event("", "", finish, None, done, log_probabilities)
        content = said.get("content" if field == "message" else "response")
        return Event(_text(content), _text(said.get("thinking")), finish, None, done, log_probabilities)

    return event


def _ollama_totals(report: Report) -> Totals:
    prompt, output = _count(report.get("prompt_eval_count")), _count(report.get("eval_count"))
    decode_s = _seconds(report, "eval_duration", 1e9)
    values = {
        "server_total_s": _seconds(report, "total_duration", 1e9),
        "server_load_s": _seconds(report, "load_duration", 1e9),
        "server_prefill_s": _seconds(report, "prompt_eval_duration", 1e9),
        "server_decode_s": decode_s,
        "server_decode_tps": _decode_tps(output, decode_s),
    }
    return Totals(prompt or None, output or None, _known(values))


GRAMMARS: dict[Dialect, Grammar] = {
    "openai-chat": Grammar(server_sent_events, _openai("delta"), _openai_totals),
    "openai-completions": Grammar(server_sent_events, _openai("text"), _openai_totals),
    "ollama-chat": Grammar(json_lines, _ollama("message"), _ollama_totals),
    "ollama-generate": Grammar(json_lines, _ollama("response"), _ollama_totals),
}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise StreamError(f"bad_stream: content that is no text: {excerpt(str(value))}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can say half a character, which nothing could store
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _word(value: Any) -> str | None:
    return value if type(value) is str else None


def _log_probabilities(told: Any) -> list[float | None]:
    """Those of the chosen tokens, in any form: OpenAI's of chats (llama.cpp has it for all), its older one, Ollama's bare list."""
    if type(told) is dict:
        told = told.get("content") or told.get("token_logprobs")
    if type(told) is not list:
        return []
    return [_log_probability(one.get("logprob") if type(one) is dict else one) for one in told]


def _log_probability(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and UNTOLD < value <= 0 else None


def _message(event: Mapping[str, Any]) -> str:
    """What an error object says, in whichever of its usual forms."""
    error = event.get("error") or event
    said = error.get("message", error) if type(error) is dict else error
    return excerpt(str(said))


def _count(value: Any) -> int | None:
    """A number of tokens; what cannot be one counts as not given."""
    return value if type(value) is int and 0 <= value < MAX_COUNT else None


def _detail(usage: Mapping[str, Any], details: str, name: str) -> int | None:
    """A count inside one of a usage's own objects."""
    told: Any = usage.get(details)
    return _count(told.get(name)) if type(told) is dict else None


def _seconds(figures: Mapping[str, Any], name: str, per_second: float) -> float | None:
    value: Any = figures.get(name)
    return value / per_second if type(value) in (int, float) and 0 <= value < MAX_FIGURE else None


def _decode_tps(tokens: int | None, seconds: float | None) -> float | None:
    return (tokens - 1) / seconds if tokens and tokens > 1 and seconds else None


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}
