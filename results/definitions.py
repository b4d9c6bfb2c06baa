"""One request under the definitions of other tools, so that their numbers can be reconciled with ours.

Each tool's figures are computed from the facts that a `Request` keeps; what they cannot tell is left out with the reason. The
tools move: `docs/explain.md` says which source each definition was read from. No I/O; how it is shown is left to others.
"""

from dataclasses import dataclass

from results.formulas import (
    Formula,
    UnknownError,
    choices,
    chunks,
    content,
    content_count,
    content_tokens,
    count,
    inverse,
    less_one,
    mean_gap,
    never,
    per_later_token,
    ratio,
    server_says,
    tokens,
    until_first,
    until_last,
)
from results.metrics import METRICS, request_values
from results.records import ERROR_KINDS, Request

FIGURES = {
    "ttft_s": ("TTFT", "s"),
    "tpot_s": ("TPOT", "s"),
    "itl_s": ("ITL", "s"),
    "e2e_s": ("End to end", "s"),
    "output_tokens": ("Tokens", ""),
    "decode_tps": ("Tokens/s", "tok/s"),
}
"""The figures that tools are compared by: label and unit. `itl_s` is the mean over one request."""

_NO_FIGURE = "The tool has no such figure of one request."


@dataclass(frozen=True)
class Definition:
    """How one tool computes one figure."""

    figure: str
    """One of `FIGURES`, by the name that the tool gives it, not by what it means."""
    name: str
    """What the tool calls it."""
    formula: str
    derive: Formula
    """Raises `UnknownError` where the request lacks the facts."""


@dataclass(frozen=True)
class Tool:
    name: str
    version: str
    """The version or commit whose source was read."""
    difference: str
    """What sets its figures apart from ours."""
    definitions: tuple[Definition, ...]
    absent: str = _NO_FIGURE
    """Why it has no other figures."""
    accepts: frozenset[str] = frozenset()
    """Kinds of errors that it does not notice: it counts such requests as successful."""


@dataclass(frozen=True)
class Row:
    """One figure of one tool for one request."""

    tool: str
    version: str
    figure: str
    name: str
    formula: str
    value: float | None
    reason: str
    """Why there is no value; empty when there is one."""


def definitions_of(request: Request) -> tuple[Row, ...]:
    """Every tool's figures of this request, in the order of `TOOLS` and `FIGURES`."""
    return tuple(_row(tool, figure, request) for tool in TOOLS for figure in FIGURES)


def _row(tool: Tool, figure: str, request: Request) -> Row:
    definition = next((one for one in tool.definitions if one.figure == figure), None)
    if definition is None:
        return Row(tool.name, tool.version, figure, "", "", None, tool.absent)
    value, reason = None, ""
    kind = (request.error or "").partition(":")[0]
    if request.error and kind not in tool.accepts:
        reason = f"The request failed ({kind if kind in ERROR_KINDS else 'error'})."
    else:
        try:
            value = definition.derive(request)
        except UnknownError as error:
            reason = str(error)
    return Row(tool.name, tool.version, figure, definition.name, definition.formula, value, reason)


def _ours(name: str) -> Formula:
    def mean(request: Request) -> float:
        values = request_values(name, request)
        if not values:
            raise UnknownError("The request lacks the facts: a first content, or tokens after it.")
        return sum(values) / len(values)

    return mean


def _sglang_ttft(request: Request) -> float:
    """Its TTFT starts as 0 and stays so without a token."""
    return until_first(tokens)(request) if any(request.event_tokens) else 0.0


_aiperf_itl = per_later_token(tokens)
_genai_itl = per_later_token(content, content_count)
_later_tokens = less_one(count)
_llama_tokenizer = "That takes a Llama tokenizer."
_IN_STREAM = frozenset({"server_error", "empty"})

TOOLS = (
    Tool(
        "Gemmeter", "this version",
        "The clock starts when the whole request is with the socket; the first token is the first visible content.",
        (
            *(
                Definition(name, METRICS[name].label, METRICS[name].definition, _ours(name))
                for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "decode_tps")
            ),
            Definition("output_tokens", "Tokens", "the engine's or the server's count", count),
        ),
    ),
    Tool(
        "vLLM bench serve", "main at 02cfb53 and 009e6d4",
        "Any chunk with a choice is a token: an empty role chunk gives the TTFT, the wait for the real first token falls to "
        "the TPOT, and the finish chunk ends the request; an error inside the stream counts as success.",
        (
            Definition("ttft_s", "TTFT", "first chunk with a choice - start", until_first(choices)),
            Definition("tpot_s", "TPOT", "(E2EL - TTFT) / (tokens - 1)", per_later_token(choices)),
            Definition("itl_s", "ITL", "mean gap between chunks with a choice", mean_gap(choices)),
            Definition("e2e_s", "E2EL", "last chunk with a choice - start", until_last(choices)),
            Definition("output_tokens", "output tokens", "the server's usage, else the text tokenized", count),
        ),
        absent="It reports the throughput of a whole run only.", accepts=_IN_STREAM,
    ),
    Tool(
        "SGLang bench_serving", "main at 00f9ec4",
        "Thoughts are tokens, empty chunks are not, but the last line ends the request, so what follows the last token is "
        "in the TPOT; the time contains opening a connection; an error inside the stream counts as success.",
        (
            Definition("ttft_s", "TTFT", "first content or thought - start, else 0", _sglang_ttft),
            Definition("tpot_s", "TPOT", "(E2E - TTFT) / (tokens - 1)",
                       lambda request: (until_last(chunks)(request) - _sglang_ttft(request)) / _later_tokens(request)),
            Definition("itl_s", "ITL", "mean gap between chunks with a token", mean_gap(tokens)),
            Definition("e2e_s", "E2E latency", "last line - start", until_last(chunks)),
            Definition("output_tokens", "output tokens", "the server's usage, else what was asked for", count),
        ),
        absent="It reports the throughput of a whole run only.", accepts=_IN_STREAM,
    ),
    Tool(
        "GuideLLM", "0.7.3+12 at ee7a774",
        "Its TPOT contains the TTFT, being all of the time per token, and its ITL is what others call TPOT; thoughts are "
        "tokens; it takes times from the wall clock.",
        (
            Definition("ttft_s", "TTFT", "first content or thought - start", until_first(tokens)),
            Definition("tpot_s", "TPOT", "(last token - start) / tokens", ratio(until_last(tokens), count)),
            Definition("itl_s", "ITL", "(last token - first token) / (tokens - 1)", per_later_token(tokens)),
            Definition("e2e_s", "request latency", "end of the stream - start", until_last(chunks)),
            Definition("output_tokens", "output tokens", "the server's usage, else chunks", count),
            Definition("decode_tps", "output tokens per second", "tokens / request latency", ratio(count, until_last(chunks))),
        ),
    ),
    Tool(
        "AIPerf", "main at 58dd5de and 095370b",
        "Its ITL is what others call TPOT; thoughts are tokens, and it tokenizes the text itself.",
        (
            Definition("ttft_s", "TTFT", "first content or thought - start", until_first(tokens)),
            Definition("itl_s", "ITL", "(request latency - TTFT) / (tokens - 1)", _aiperf_itl),
            Definition("e2e_s", "request latency", "last content or thought - start", until_last(tokens)),
            Definition("output_tokens", "output sequence length", "the text tokenized, thoughts included", count),
            Definition("decode_tps", "output token throughput per user", "1 / ITL", inverse(_aiperf_itl)),
        ),
    ),
    Tool(
        "genai-perf", "0.0.16dev at 263c5f6",
        "As AIPerf, which came after it, but thoughts are no tokens: the TTFT waits for visible content.",
        (
            Definition("ttft_s", "TTFT", "first content - start", until_first(content)),
            Definition("itl_s", "ITL", "(request latency - TTFT) / (tokens - 1)", _genai_itl),
            Definition("e2e_s", "request latency", "last content - start", until_last(content)),
            Definition("output_tokens", "output sequence length", "the text tokenized", content_count),
            Definition("decode_tps", "output token throughput per user", "1 / ITL", inverse(_genai_itl)),
        ),
    ),
    Tool(
        "inference-perf", "0.6.1+29 at 7de5ef2",
        "The tokens of one chunk are gaps of 0 in its ITL, and the request ends with the stream and its own tokenizing, of "
        "which the latter is unknown here.",
        (
            Definition("ttft_s", "TTFT", "first content - start", until_first(content_tokens)),
            Definition("tpot_s", "TPOT", "(last content - first content) / (tokens - 1)",
                       per_later_token(content_tokens, content_count)),
            Definition("itl_s", "ITL", "mean gap between tokens", mean_gap(content_tokens)),
            Definition("e2e_s", "request latency", "end of the stream - start", until_last(chunks)),
            Definition("output_tokens", "output tokens", "the text tokenized", content_count),
        ),
        absent="It reports the throughput of a whole run only.",
    ),
    Tool(
        "llmperf", "main at f1d6bed",
        "Its ITL contains the TTFT, being all of the time per token, and is counted with a Llama tokenizer, whatever the "
        "model is.",
        (
            Definition("ttft_s", "TTFT", "first content - start", until_first(content)),
            Definition("itl_s", "inter token latency", "(last content - start) / tokens", never(_llama_tokenizer)),
            Definition("e2e_s", "end to end latency", "end of the stream - start", until_last(chunks)),
            Definition("output_tokens", "output tokens", "the text by a Llama tokenizer", never(_llama_tokenizer)),
            Definition("decode_tps", "request output throughput", "tokens / end to end latency", never(_llama_tokenizer)),
        ),
    ),
    Tool(
        "llama.cpp server", "main at 001d906, xllamacpp 2026.10.11549",
        "Its own clock, without network and waiting: the prompt's time up to the first token, then the gaps after it; "
        "builds before August 2026 divide the latter by all tokens, one more than there are gaps.",
        (
            Definition("ttft_s", "prompt_ms", "start of the prompt until its first token", server_says("server_prefill_s")),
            Definition("tpot_s", "predicted_per_token_ms", "predicted_ms / (tokens - 1)", ratio(server_says("server_decode_s"), _later_tokens)),
            Definition("e2e_s", "total time", "prompt_ms + predicted_ms", server_says("server_prefill_s", "server_decode_s")),
            Definition("output_tokens", "predicted_n", "its own count", count),
            Definition("decode_tps", "predicted_per_second", "(tokens - 1) / predicted_ms", ratio(_later_tokens, server_says("server_decode_s"))),
        ),
    ),
    Tool(
        "llama-bench", "main at 0104b15",
        "It sends no requests: it times the decoding of random tokens, without sampling, text or network.",
        (), absent="It times no requests.",
    ),
    Tool(
        "Ollama", "0.33.0-rc2 at fb30760",
        "Its own clock: the rate divides all tokens by the time of the gaps between them, one less than tokens, and the "
        "total contains loading the model.",
        (
            Definition("e2e_s", "total_duration", "its handler's start until its last object", server_says("server_total_s")),
            Definition("output_tokens", "eval_count", "its own count", count),
            Definition("decode_tps", "eval rate", "eval_count / eval_duration", ratio(count, server_says("server_decode_s"))),
        ),
    ),
    Tool(
        "TGI", "3.3.7+1 at db931fc",
        "Its own clock: the time per token contains the prompt, being the whole time in the batch per token.",
        (
            Definition("tpot_s", "time per token", "(prefill + decode) / tokens",
                       ratio(server_says("server_prefill_s", "server_decode_s"), count)),
            Definition("e2e_s", "total time", "its handler's start until its last token", server_says("server_total_s")),
            Definition("output_tokens", "generated tokens", "its own count", count),
        ),
    ),
    Tool(
        "OpenTelemetry client", "1.41.1",
        "It counts chunks, not tokens: the first may be empty, and the gaps are those between chunks.",
        (
            Definition("ttft_s", "gen_ai.client.operation.time_to_first_chunk", "first chunk - start", until_first(chunks)),
            Definition("itl_s", "gen_ai.client.operation.time_per_output_chunk", "mean gap between chunks", mean_gap(chunks)),
            Definition("e2e_s", "gen_ai.client.operation.duration", "end of the operation - start", until_last(chunks)),
            Definition("output_tokens", "gen_ai.client.token.usage", "the server's usage", count),
        ),
    ),
    Tool(
        "OpenTelemetry server", "1.41.1",
        "The server's own clock, with its queue and without the network.",
        (
            Definition("ttft_s", "gen_ai.server.time_to_first_token", "server total - server decode",
                       lambda request: server_says("server_total_s")(request) - server_says("server_decode_s")(request)),
            Definition("tpot_s", "gen_ai.server.time_per_output_token", "server decode / (tokens - 1)",
                       ratio(server_says("server_decode_s"), _later_tokens)),
            Definition("e2e_s", "gen_ai.server.request.duration", "server total", server_says("server_total_s")),
        ),
    ),
)  # fmt: skip
