"""The words for row warnings: each kind's sentence, with the facts filled in."""

from results.records import RowWarning

CAVEATS: dict[str, str] = {
    "cpu_contention": "other processes took {share:.0%} of the machine's CPU time",
    "cpu_throttled": "the container's CPU quota throttled the process {periods:.0f} times",
    "cpu_quota": "the container may use {limit:g} CPUs, fewer than the {threads} threads that compute",
    "cpu_heat": "the CPU slowed itself down for heat {events} times",
    "cpu_clock": "the CPU's clock was at the median {drop:.0%} below its highest in the case",
    "gpu_throttled": "the GPU was slowed down in {share:.0%} of the time ({reasons})",
    "gpu_clock": "the GPU's clock fell while it worked to {drop:.0%} below its highest in the case",
    "on_battery": "the machine ran on battery",
    "governor": "the CPU governor is {governor}, not performance",
    "foreign_device_processes": "{processes} other processes were on the GPU",
    "dirty_start": "the case began with {excess:.1%} more memory than right after the load",
    "early_stop": "{stopped} of {requests} requests stopped before {wanted} tokens",
    "token_mismatch": "the text of {requests} requests re-tokenizes to {recount} tokens, the engine counted {count}",
    "base_model": "a base model continues text, so its answers score below those of an instruction-tuned one",
    "expanded_weights": "weights were expanded from {source}: speed and memory are those of {quantization}, quality is that of {source}",
    "requantized_weights": "weights were made from {source} ones, not from the originals: quality suffers from both levels",
    "random_weights": "weights are random: speed and memory are real, quality is not measured",
    "process_spread": "processes differ by {spread:.0%}",
    "within_process": "the interval is the spread within one process: run three or more",
    "client_bottleneck": "the client itself may have been the bottleneck ({why})",
    "arrivals": "the requests did not arrive as planned ({what})",
    "short_load": "the closed loop ended after {seconds:.1f} of {wanted:g} s: it was stopped, or its prompts were used up",
    "out_of_time": "sending stopped after {seconds:.0f} s, before the case's time limit: raise timeout_s",
    "over_saturated": "more arrived than the server could serve: waiting times grew until the end",
    "request_errors": "{failed} of {requests} requests failed ({kinds})",
    "cache_hits": "the server had {share:.0%} of the prompts' tokens in a cache, although the case is not about caching",
    "prompt_count": "the server counted {server} prompt tokens in {requests} requests where {wanted} were asked for",
    "prompt_tokens_differ": "its prompts have {count:.1f} tokens on average, those of {engine} have {other:.1f}: they do not do equal work",
    "server_disagrees": "the server says that it decoded {server:.3g} tok/s, its client saw {ours:.3g}",
    "uneven_events": "events of {requests} requests carried several tokens: their share of each is an estimate",
    "unknown_machine": "the report of {tool} does not tell which machine was measured",
    "remote_session": "the server was not started for this measurement: its processes are sessions of one server",
    "failed_processes": "{failed} of {planned} processes failed ({kinds})",
}  # fmt: skip


def sentence(warning: RowWarning) -> str:
    """The warning as one sentence; an unknown kind (from a newer version) shows its facts."""
    template = CAVEATS.get(warning.kind)
    if template is None:
        return f"{warning.kind} {warning.facts}"
    try:
        return template.format(**warning.facts)
    except (KeyError, ValueError):
        return f"{warning.kind} {warning.facts}"
