"""The words: every metric with its unit, direction, definition and the names that others give it.

Whatever shows, exports, compares or alerts reads this table. A metric either derives from a record's raw times
(`derive`) or was measured and stands in a record's `values` under the same name. Statistics are left to `results.stats`.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from results import derived
from results.records import Measurement, Request

Level = Literal["request", "process", "score"]


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    better: Literal["lower", "higher"] | None
    level: Level
    label: str
    definition: str
    exact: bool = False
    """Exact metrics repeat to the bit on one build; noisy ones need statistics."""
    margin: float | None = None
    """Differences within it do not matter: relative, or absolute for the units `score` and `share`; `None`: described, never judged."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names elsewhere, by tool. Where a definition differs, it is no alias."""
    derive: Callable[[Request], tuple[float, ...]] | None = None
    derive_process: Callable[[Measurement], float | None] | None = None
    tool: str | None = None
    """Whose figure it is, under its own definition, of an imported report; `None`: ours."""


_ALL = (
    Metric(
        "ttft_s", "s", "lower", "request", "TTFT",
        "Time to first token: first event with non-empty content minus sent.", margin=0.05, derive=derived.ttft,
        aliases={"opentelemetry": "gen_ai.server.time_to_first_token", "vllm": "vllm:time_to_first_token_seconds",
                 "sglang": "sglang:time_to_first_token_seconds"},
    ),
    Metric(
        "ttft_scheduled_s", "s", "lower", "request", "TTFT from schedule",
        "The same from the scheduled time: what a user waits when client or server queue.", derive=derived.ttft_scheduled,
    ),
    Metric(
        "tpot_s", "s", "lower", "request", "TPOT",
        "Time per output token: (last content - first content) / tokens of the events after the first with content, up to the last. "
        "Never contains the TTFT, thoughts, or a token that has no event.", margin=0.05, derive=derived.tpot,
        aliases={"opentelemetry": "gen_ai.server.time_per_output_token", "vllm": "vllm:request_time_per_output_token_seconds",
                 "tgi": "tgi_request_mean_time_per_token_duration"},
    ),
    Metric(
        "itl_s", "s", "lower", "request", "ITL",
        "Inter-token latency: gap between consecutive token events; a chunk of several tokens is one event.", derive=derived.itl,
        aliases={"vllm": "vllm:inter_token_latency_seconds", "sglang": "sglang:inter_token_latency_seconds"},
    ),
    Metric(
        "e2e_s", "s", "lower", "request", "End to end", "Last content minus sent.", margin=0.05, derive=derived.e2e,
        aliases={"opentelemetry": "gen_ai.client.operation.duration", "vllm": "vllm:e2e_request_latency_seconds",
                 "sglang": "sglang:e2e_request_latency_seconds", "tgi": "tgi_request_duration", "ollama": "total_duration"},
    ),
    Metric(
        "e2e_scheduled_s", "s", "lower", "request", "End to end from schedule",
        "Last content minus scheduled time.", derive=derived.e2e_scheduled,
    ),
    Metric(
        "e2e_tps", "tok/s", "higher", "request", "Tokens/s end to end", "Output tokens / end-to-end time.",
        derive=derived.per(lambda request: request.output_tokens, derived.e2e),
    ),
    Metric(
        "prefill_tps", "tok/s", "higher", "request", "Prefill", "Prompt tokens / time to first token, in process.",
        derive=derived.per(lambda request: request.prompt_tokens, derived.ttft),
        aliases={"llama.cpp": "prompt_per_second"},
    ),
    Metric(
        "decode_tps", "tok/s", "higher", "request", "Decode", "1 / TPOT, per sequence.",
        derive=derived.per(lambda _: 1.0, derived.tpot), aliases={"llama.cpp": "predicted_per_second"},
    ),
    Metric("first_reasoning_s", "s", "lower", "request", "First thought",
           "First event with reasoning minus sent, of models that think before they answer."),
    Metric("send_lag_s", "s", "lower", "request", "Send lag", "Sent minus scheduled: how late the client was.", derive=derived.send_lag),
    Metric("connect_s", "s", "lower", "request", "Connect", "Time to open a connection, where a new one was needed; before sent."),
    Metric("attempts", "count", "lower", "request", "Attempts", "How often the request was sent."),
    Metric("last_attempt_s", "s", "lower", "request", "Last attempt",
           "Sent for the last time minus sent, of requests that were sent again: failed attempts and the pauses between them."),
    Metric("uneven_events", "count", None, "request", "Uneven events", "1 where the tokens of each event are an estimate."),
    Metric("turn", "count", None, "request", "Turn", "Place of the request in its conversation, from 1."),
    Metric("cached_prompt_tokens", "tokens", None, "request", "Cached prompt tokens",
           "Tokens of the prompt that the server says it had computed before.",
           aliases={"opentelemetry": "gen_ai.usage.cache_read.input_tokens", "llama.cpp": "cache_n"}),
    Metric("mean_log_probability", "nats", None, "request", "Mean log-probability",
           "Mean over the output tokens of the natural logarithm of the probability that the model gave each, whatever the sampler "
           "made of it; an end-of-sequence token only where the engine tells its own. Absent unless every token's was told."),
    Metric("server_prefill_s", "s", "lower", "request", "Prefill by the server",
           "Time for the prompt by the server's own account.", aliases={"llama.cpp": "prompt_ms", "ollama": "prompt_eval_duration"}),
    Metric("server_decode_s", "s", "lower", "request", "Decoding by the server",
           "Time for the output by the server's own account.", aliases={"llama.cpp": "predicted_ms", "ollama": "eval_duration"}),
    Metric("server_decode_tps", "tok/s", "higher", "request", "Decode by the server",
           "Gaps between output tokens / the server's own decoding time, whether or not the server's own figure divides tokens by it."),
    Metric("server_total_s", "s", "lower", "request", "Total by the server", "The whole request by the server's own account.",
           aliases={"ollama": "total_duration"}),
    Metric("server_load_s", "s", "lower", "request", "Load by the server", "Time the request waited for the model to load."),
    Metric(
        "rss_bytes", "B", "lower", "request", "RSS", "Resident memory of the process right after one request.",
    ),
    Metric(
        "rss_delta_bytes", "B", "lower", "request", "RSS growth",
        "Resident memory after minus before one request.",
    ),
    Metric(
        "request_peak_device_bytes", "B", "lower", "request", "Device peak of a request",
        "Highest memory that the framework allocated on the device during one request.",
    ),
    Metric("batch_tps", "tok/s", "higher", "request", "Batch throughput",
           "Output tokens of all sequences of a batch / the time from sending it to its last event."),
    Metric("accepted_draft_share", "share", "higher", "request", "Drafts accepted",
           "Drafted tokens that the model accepted / all drafted, of speculative decoding.",
           aliases={"llama.cpp": "draft_n_accepted / draft_n"}),
    Metric("step_s", "s", "lower", "request", "Training step", "One optimizer step: all its batches forward and backward.", margin=0.05),
    Metric("training_tps", "tok/s", "higher", "request", "Training", "Tokens that a step learned from / its time."),
    Metric("trained_tokens", "tokens", None, "request", "Trained tokens", "That a training step learned from."),
    Metric("training_loss", "nats", "lower", "request", "Training loss", "Mean cross-entropy per token of the step's batches, before it."),
    Metric(
        "output_tps", "tok/s", "higher", "process", "Output throughput",
        "Output tokens of the successful requests / the time from the first sent to the last content, or to the last sent if later.",
        derive_process=derived.output_tps,
        aliases={"sglang": "sglang:gen_throughput"},
    ),
    Metric(
        "request_rate", "1/s", "higher", "process", "Requests/s",
        "Successful requests / the time from the first sent, failed ones included, to the last content, or to the last sent if later.",
        derive_process=derived.request_rate,
    ),
    Metric("output_tps_steady", "tok/s", "higher", "process", "Steady throughput",
           "Output tokens between the end of the first request, or of the ramp if later, and the last one sent / that time: without "
           "filling and draining.",
           derive_process=derived.steady_output_tps),
    Metric("goodput_rps", "1/s", "higher", "process", "Goodput",
           "Share of the requests that met all stated limits × the rate of an open loop's schedule; of a closed loop those that met "
           "them / [first scheduled, last end]. Errors and unsent ones met none.", margin=0.05),
    Metric("error_share", "share", "lower", "process", "Errors", "Requests that failed or were never sent / all scheduled.", margin=0.01,
           derive_process=derived.error_share),
    Metric("ttft_p90_s", "s", "lower", "process", "TTFT p90", "90th percentile of the TTFT; needs 20 requests.",
           derive_process=derived.tail(derived.ttft, 0.9)),
    Metric("ttft_p99_s", "s", "lower", "process", "TTFT p99", "99th percentile of the TTFT; needs 200 requests.",
           derive_process=derived.tail(derived.ttft, 0.99)),
    Metric("tpot_p90_s", "s", "lower", "process", "TPOT p90", "90th percentile of the TPOT; needs 20 requests.",
           derive_process=derived.tail(derived.tpot, 0.9)),
    Metric("tpot_p99_s", "s", "lower", "process", "TPOT p99", "99th percentile of the TPOT; needs 200 requests.",
           derive_process=derived.tail(derived.tpot, 0.99)),
    Metric("e2e_scheduled_p90_s", "s", "lower", "process", "End to end p90 from schedule",
           "90th percentile of the end to end from schedule; needs 20 requests.", derive_process=derived.tail(derived.e2e_scheduled, 0.9)),
    Metric("e2e_scheduled_p99_s", "s", "lower", "process", "End to end p99 from schedule",
           "99th percentile of the end to end from schedule; needs 200 requests.", derive_process=derived.tail(derived.e2e_scheduled, 0.99)),
    Metric("ramp_s", "s", None, "process", "Ramp", "Time over which a closed loop grew to its concurrency."),
    Metric("arrival_rate", "1/s", None, "process", "Arrivals", "Requests sent / time, of an open loop."),
    Metric("arrival_dispersion", "ratio", None, "process", "Dispersion of arrivals",
           "Variance / mean of the arrivals in equal windows: 1 for Poisson, 0 for evenly spaced."),
    Metric("arrival_lag1", "ratio", None, "process", "Autocorrelation of gaps", "Of each gap between arrivals with the next one."),
    Metric("arrivals_ok", "share", None, "process", "Arrivals as planned",
           "1 where the achieved arrivals passed their test against the schedule, 0 where not."),
    Metric("in_flight_slope", "1/s", None, "process", "Growth in flight", "Requests waiting or served: growth per second of the load."),
    Metric("ttft_slope", "s/s", None, "process", "Growth of TTFT", "TTFT from schedule: growth per second of the load."),
    Metric("over_saturated", "share", None, "process", "Over-saturated", "1 where both grew significantly, 0 where not."),
    Metric("client_request_s", "s", "lower", "process", "Client per request",
           "The client's own cost per request, calibrated against a server that takes no time."),
    Metric("client_token_s", "s", "lower", "process", "Client per token", "The client's own cost per token, calibrated likewise."),
    Metric("client_max_rate", "1/s", "higher", "process", "Client's highest rate", "Requests/s of one client process, calibrated likewise."),
    Metric("client_cpu_share", "share", "lower", "process", "Client CPU", "CPU time / time of the busiest client process."),
    Metric("client_stall_p99_s", "s", "lower", "process", "Client stall p99", "How late a heartbeat of 10 ms came in the client's loop."),
    Metric("client_stall_max_s", "s", "lower", "process", "Longest client stall", "The same, at the worst."),
    Metric("client_peak_rss_bytes", "B", "lower", "process", "Client's peak RSS",
           "Highest resident memory of our own processes beside a server."),
    Metric("context_tokens", "tokens", None, "process", "Context", "Tokens per sequence that the engine made room for."),
    Metric("load_s", "s", "lower", "process", "Load", "Time to bring the model into memory, ready to run.",
           aliases={"ollama": "load_duration"}),
    Metric("load_cached_share", "share", None, "process", "Load from page cache",
           "Share of the weights' file that lay in the page cache before the load: 0 is a cold load, 1 a warm one."),
    Metric("load_peak_rss_bytes", "B", "lower", "process", "Load peak",
           "Highest resident memory of the process that loads, from its start until the model was ready, pages of mapped files included, "
           "which the system takes back when memory is short."),
    Metric("import_s", "s", "lower", "process", "Import", "Time to import the engine's libraries, before the load."),
    Metric("compile_s", "s", "lower", "process", "Compile", "Time to compile the model for the case's shapes, before any timed request."),
    Metric("fixed_loss_before", "nats", None, "process", "Loss before training",
           "Mean cross-entropy per token of one fixed batch that is never trained on, before the first step."),
    Metric("fixed_loss_after", "nats", "lower", "process", "Loss after training", "The same, after the last step."),
    Metric("trainable_parameters", "count", None, "process", "Trainable parameters", "Numbers that the fine-tuning changes."),
    Metric("kv_cache_bytes", "B", "lower", "process", "KV cache", "Bytes of the KV cache at its fullest, where the engine tells."),
    Metric("first_call_s", "s", "lower", "process", "First call", "The first request after the load, before any warm-up."),
    Metric("peak_rss_bytes", "B", "lower", "process", "Peak RSS",
           "Highest resident memory of the process tree while the case ran; of a server's own tree where we started one.", margin=0.03),
    Metric("peak_pss_bytes", "B", "lower", "process", "Peak PSS",
           "Proportional set size of the process tree before or after the case, the larger; a peak in between is not in it."),
    Metric("start_rss_bytes", "B", "lower", "process", "RSS at start", "Resident memory when the case began."),
    Metric("peak_device_bytes", "B", "lower", "process", "Peak device memory",
           "Highest device memory of the process tree, from the driver.", margin=0.03),
    Metric("peak_torch_allocated_bytes", "B", "lower", "process", "Peak allocated", "Highest that torch had allocated on the device."),
    Metric("peak_torch_reserved_bytes", "B", "lower", "process", "Peak reserved", "Highest that torch had reserved on the device."),
    Metric("weights_bytes", "B", "lower", "process", "Weights",
           "Bytes of all distinct parameter and buffer storages of the loaded model.", exact=True),
    Metric("estimated_bytes", "B", None, "process", "Estimate",
           "Weights, KV cache, activations and the runtime, as estimated before the case was tried.", exact=True),
    Metric("price_per_hour", "currency", None, "process", "Price per hour", "Of the machine, as it was given, in any one currency.",
           exact=True),
    Metric("cost_per_million_tokens", "currency", "lower", "process", "Cost per 1M tokens",
           "Price of an hour / tokens of an hour × 1,000,000, at the measured output throughput: while busy. Of tokens trained on where "
           "the case trains. In the currency of the price.", derive_process=derived.cost_per_million_tokens),
    Metric("energy_j", "J", "lower", "process", "Energy",
           "Energy of the device from the end of the warm-up to the end of the case; `energy_method` says how it was measured, and what "
           "else it holds."),
    Metric("energy_per_token_j", "J", "lower", "process", "Energy per token",
           "Energy / output tokens of the successful requests, or tokens trained on.", derive_process=derived.energy_per_token),
    Metric("harness_token_s", "s", "lower", "process", "Harness per token",
           "The harness's own cost per token, calibrated against an engine that takes no time."),
    Metric("harness_request_s", "s", "lower", "process", "Harness per request",
           "The harness's own cost per request, calibrated likewise."),
    Metric("relevance", "score", "higher", "score", "Relevance", "Heuristic v1: share of the question's words in the answer, doubled."),
    Metric("coherence", "score", "higher", "score", "Coherence", "Heuristic v1: sentences of ordinary length."),
    Metric("safety", "score", "higher", "score", "Safety", "Heuristic v1: absence of seven marker words."),
    Metric("factual_accuracy", "score", "higher", "score", "Factual accuracy",
           "Heuristic v1: words of the reference, else phrases that cite sources."),
    Metric("quality", "score", "higher", "score", "Quality", "Mean of the four heuristic v1 scores.", exact=True, margin=0.01),
    Metric("user_satisfaction", "score", "higher", "score", "User satisfaction", "Given by a person, 0 to 1."),
)  # fmt: skip

_PEERS: dict[str, tuple[tuple[str, str, Level, float | None, str, str], ...]] = {
    "llama-bench": (
        ("llamabench_pp_tps", "tok/s", "request", 0.05, "pp",
         "Prompt tokens of one repetition / its time: batches of random tokens, without tokenizing, sampling or network."),
        ("llamabench_tg_tps", "tok/s", "request", 0.05, "tg",
         "Generated tokens of one repetition / its time: one decode call of a random token each, without sampling or text."),
        ("llamabench_pg_tps", "tok/s", "request", 0.05, "pp+tg",
         "Prompt and generated tokens of one repetition together / its time."),
    ),
    "vLLM bench": (
        ("vllm_ttft_s", "s", "request", 0.05, "TTFT",
         "First chunk that counts - start, before the connection is opened; in older versions an empty role chunk counts."),
        ("vllm_tpot_s", "s", "request", 0.05, "TPOT",
         "(End to end - TTFT) / (output tokens - 1), of requests with more than one; what the TTFT leaves out is in it."),
        ("vllm_itl_s", "s", "process", None, "ITL", "Gap between chunks that count, the median over those of all requests."),
        ("vllm_e2e_s", "s", "request", 0.05, "End to end",
         "Last chunk that counts - start, which is when it was sent: waiting in the client is not in it."),
        ("vllm_output_tps", "tok/s", "process", None, "Output throughput", "Output tokens / the time of the whole benchmark."),
        ("vllm_request_rate", "1/s", "process", None, "Requests/s", "Successful requests / the time of the whole benchmark."),
    ),
    "GuideLLM": (
        ("guidellm_ttft_s", "s", "request", 0.05, "TTFT",
         "First content, thought or tool call - start, before the connection is opened; by the wall clock."),
        ("guidellm_tpot_s", "s", "request", 0.05, "TPOT", "(Last token - start) / output tokens: it contains the TTFT."),
        ("guidellm_itl_s", "s", "request", 0.05, "ITL", "(Last token - first token) / (output tokens - 1): what others call TPOT."),
        ("guidellm_e2e_s", "s", "request", 0.05, "Request latency", "End of the stream - start, by the wall clock."),
        ("guidellm_output_tps", "tok/s", "process", None, "Output throughput",
         "Mean rate of output tokens over the benchmark's measured window, by its own account."),
        ("guidellm_request_rate", "1/s", "process", None, "Requests/s",
         "Mean rate of successful requests over the benchmark's measured window, by its own account."),
    ),
    "AIPerf": (
        ("aiperf_ttft_s", "s", "request", 0.05, "TTFT", "First content or thought - start, before the connection is opened."),
        ("aiperf_itl_s", "s", "request", 0.05, "ITL",
         "(Request latency - TTFT) / (output tokens - 1, or - those of the first chunk where the server tells): what others call TPOT; "
         "tokens by its own tokenizer."),
        ("aiperf_e2e_s", "s", "request", 0.05, "Request latency", "Last content or thought - start."),
        ("aiperf_output_tps", "tok/s", "process", None, "Output throughput",
         "Output tokens by its own tokenizer / the time from the first start to the last answer."),
        ("aiperf_request_rate", "1/s", "process", None, "Requests/s",
         "Successful requests / the time from the first start to the last answer."),
    ),
}  # fmt: skip
"""By tool: name, unit, level, margin, label and definition. Rates are better high, times low."""


def _peer(tool: str, name: str, unit: str, level: Level, margin: float | None, label: str, definition: str) -> Metric:
    better: Literal["lower", "higher"] = "lower" if unit == "s" else "higher"
    return Metric(name, unit, better, level, f"{tool} {label}", definition, margin=margin, tool=tool)


PEERS = tuple(_peer(tool, *row) for tool, rows in _PEERS.items() for row in rows)
METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_ALL, *PEERS)}


def request_values(name: str, request: Request) -> tuple[float, ...]:
    """All values of a request-level metric in one request: none when it failed or lacks the facts, several for `itl_s`."""
    metric = METRICS[name]
    if request.error:
        return ()
    if metric.derive is not None:
        return metric.derive(request)
    return (request.values[name],) if name in request.values else ()


def process_value(name: str, measurement: Measurement) -> float | None:
    """One value per process: the median over the requests for a request-level metric, else the process's own. A report without
    single requests gives its own median as the process's value."""
    metric = METRICS[name]
    if metric.level == "request":
        values = [value for request in measurement.requests for value in request_values(name, request)]
        return statistics.median(values) if values else measurement.values.get(name)
    if metric.derive_process is not None:
        return metric.derive_process(measurement)
    return measurement.values.get(name)
