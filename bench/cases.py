"""One point of a suite's matrix on this machine: its values become a case, contradictions among them errors."""

from dataclasses import dataclass
from typing import Any

from bench.adapters import Adapter
from bench.engines import support
from bench.engines.protocol import Support
from bench.quantizations import OPTIMIZATIONS, dtype_of
from bench.servers import named
from bench.suite import SETTINGS, Suite
from bench.weights import ResolvedModel
from bench.workloads import Prompts
from results.cases import Case, Load, PlannedCase, Sampling, Training
from results.errors import UsageError

UNKNOWN = "unknown"
DRAFT_TOKENS = 5
"""Drafted at a time unless given."""
QUANTIZED_KV = "int4"
"""The format of a quantized KV cache unless given."""
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")


@dataclass(frozen=True)
class Machine:
    """What `auto` means here."""

    device: str
    threads: int


@dataclass(frozen=True)
class Parts:
    """What the references of a point stand for."""

    model: ResolvedModel
    prompts: Prompts
    draft: ResolvedModel | None = None
    adapter: Adapter | None = None
    target: str | None = None
    """The name of a server that somebody else started."""
    load: Load | None = None
    limits: str | None = None


def with_optimization(suite: Suite, point: dict[str, Any]) -> dict[str, Any]:
    """The point with the quantization and type of computing that its optimization level means.

    Raises:
        UsageError: it gives one of these as well.
    """
    level = point.get("optimization")
    if level is None:
        return point
    if "quantization" in point or "dtype" in point:
        raise UsageError(f"{suite.name}: optimization {level} says quantization and dtype itself: leave those two out, or it.")
    return point | OPTIMIZATIONS[level]


def planned_case(suite: Suite, point: dict[str, Any], tags: tuple[str, ...], parts: Parts, machine: Machine) -> PlannedCase:
    """
    Raises:
        UsageError: values of the point contradict each other.
    """
    workload, able, model = suite.workload, support(point["engine"]), parts.model
    device = machine.device if point["device"] == "auto" else point["device"]
    if device not in able.devices and (point["device"] == "auto" or len(able.devices) == 1):
        device = able.devices[0]
    threads = machine.threads if point["threads"] == "auto" else point["threads"]
    dtype, quantization = _precision(point, parts, able.weights)
    kv_cache, kv_dtype = _cache(point, able, dtype)
    training = Training(**workload.finetune.model_dump()) if workload.finetune else None
    case = Case(
        weights=model.weights,
        engine=point["engine"],
        device=device,
        dtype=dtype,
        quantization=quantization,
        source_precision=model.source_precision,
        threads=threads if device == "cpu" else None,
        purpose="finetune" if training else "speed",
        workload=parts.prompts.digest,
        prompt_format=workload.prompt_format,
        prompt_tokens=None if training else point.get("prompt_tokens", workload.prompt_tokens),
        output_tokens=0 if training else point["output_tokens"],
        target=parts.target,
        slots=point["slots"] if able.starts_server and point["slots"] > 1 else None,
        load=parts.load,
        prompt_cache=point["prompt_cache"],
        shared_prefix_tokens=workload.shared_prefix_tokens,
        prefix_hit_rate=workload.prefix_hit_rate,
        turns=workload.turns,
        log_probabilities=point["log_probabilities"],
        batch=point["batch"],
        depth=point["depth"],
        sampling=_sampling(suite, point),
        training=training,
        draft=parts.draft.weights if parts.draft else None,
        draft_tokens=point.get("draft_tokens", DRAFT_TOKENS) if parts.draft else None,
        attention=point.get("attention"),
        compile_mode=point.get("compile"),
        kv_cache=kv_cache,
        kv_dtype=kv_dtype,
        tensor_parallel=point["tensor_parallel"],
        adapter=parts.adapter.digest if parts.adapter else None,
    )
    _check(suite, point, case)
    settings = {name: point[name] for name in SETTINGS if name in point}
    if training:
        settings |= {"iterations": training.steps, "min_seconds": 0.0, "warmup": 0}
    return PlannedCase(
        case=case, model=model.name, base_model=model.base, tags=tags, limits=parts.limits,
        draft_model=parts.draft.name if parts.draft else None,
        asked_threads=point["threads"] if case.threads and point["threads"] != "auto" else None,
        adapter_name=parts.adapter.name if parts.adapter else None,
        isolated=suite.isolation == "case" or training is not None,
        memory_limit_bytes=settings.pop("memory_limit", None), **settings,
    )  # fmt: skip


def _cache(point: dict[str, Any], able: Support, dtype: str) -> tuple[str | None, str | None]:
    """(kind, format) of the KV cache, one pair for each measurement: what an engine that has the kinds does anyway is `None`."""
    kind, form = point.get("kv_cache"), point.get("kv_dtype")
    if "kv_cache" not in able.switches or kind == "off":
        return kind, form
    if kind == "quantized":
        return kind, form or QUANTIZED_KV
    own = "static" if point.get("compile") else "dynamic"
    return None if kind == own else kind, None if form == dtype else form


def computed_in(point: dict[str, Any]) -> str:
    """The type of computing that a point means, given or not."""
    form = support(point["engine"]).weights
    unless_given = {"served": UNKNOWN, "gguf": "fp32", "folder": dtype_of(point.get("quantization", "fp32"))}
    return str(point.get("dtype", unless_given[form]))


def _precision(point: dict[str, Any], parts: Parts, form: str) -> tuple[str, str]:
    """(type of computing, format of the weights)."""
    dtype = computed_in(point)
    stored = {"served": UNKNOWN, "gguf": parts.model.stored or UNKNOWN, "folder": dtype}
    return dtype, point.get("quantization", stored[form])


def _sampling(suite: Suite, point: dict[str, Any]) -> Sampling | None:
    given = {name: point[name] for name in SAMPLING if point.get(name) is not None}
    if given and "temperature" not in given:
        raise UsageError(f"{suite.name}: {', '.join(given)} without temperature: give temperature too, or leave them out.")
    return Sampling(**given) if given else None


def target_of(suite: Suite, point: dict[str, Any]) -> str:
    """The name of the server that a point asks.

    Raises:
        UsageError: its engine needs one, and none is given.
    """
    if reference := point.get("server"):
        return named(reference, suite.servers)
    if point["engine"] == "ollama":
        return "ollama"
    raise UsageError(f"{suite.name}: engine {point['engine']} needs a server: give `server` a name, a preset or a URL.")


def load_of(suite: Suite, point: dict[str, Any], trace: str | None) -> Load | None:
    """How requests arrive; `None`: one at a time.

    Raises:
        UsageError: several loads are given, or halves of one.
    """
    concurrency, rate, arrivals = point.get("concurrency"), point.get("rate"), point.get("arrivals")
    if sum(one is not None for one in (concurrency, rate, trace)) > 1:
        raise UsageError(f"{suite.name}: concurrency, rate and workload.trace are different loads: give one of them.")
    if rate is None and (arrivals or point.get("burstiness")):
        raise UsageError(f"{suite.name}: arrivals and burstiness need a rate: give rate, in requests per second.")
    if concurrency is None and point.get("ramp_s"):
        raise UsageError(f"{suite.name}: ramp_s needs a closed loop: give concurrency.")
    if (arrivals == "gamma") != (point.get("burstiness") is not None):
        raise UsageError(f"{suite.name}: gamma arrivals and burstiness go together: give both or neither.")
    if trace:
        return Load(arrivals="trace", trace=trace)
    if rate is not None:
        return Load(arrivals=arrivals or "poisson", rate=rate, burstiness=point.get("burstiness"))
    return None if concurrency is None else Load(arrivals="closed", concurrency=concurrency, ramp_s=point.get("ramp_s", 0.0))


def _check(suite: Suite, point: dict[str, Any], case: Case) -> None:
    """
    Raises:
        UsageError: values of one case contradict each other.
    """
    if case.target and point["threads"] != "auto":
        raise UsageError(f"{suite.name}: threads are the server's own affair where it was not started here: leave them out.")
    if point["min_seconds"] >= point["timeout_s"]:
        raise UsageError(
            f"{suite.name}: min_seconds {point['min_seconds']:g} must be less than timeout_s {point['timeout_s']:g}."
        )
    if (case.shared_prefix_tokens is None) != (case.prefix_hit_rate is None):
        raise UsageError(f"{suite.name}: workload.shared_prefix_tokens and prefix_hit_rate go together: give both or neither.")
    if case.shared_prefix_tokens and case.shared_prefix_tokens >= (case.prompt_tokens or 0):
        raise UsageError(f"{suite.name}: workload.shared_prefix_tokens must be less than prompt_tokens: give a longer prompt.")
    if case.load and case.load.trace and (case.prompt_format == "chat" or case.turns > 1 or case.prefix_hit_rate):
        raise UsageError(f"{suite.name}: a trace says itself what its prompts are: leave chat, turns and shared prefixes out.")
    if case.load is None and (case.turns > 1 or case.prefix_hit_rate):
        raise UsageError(f"{suite.name}: turns and shared prefixes are parts of a load: give concurrency or rate.")
    if case.training and (ignored := _ignored_in_training(suite, point, case)):
        raise UsageError(f"{suite.name}: workload.finetune trains, with adapters of its own: leave {', '.join(ignored)} out.")
    if case.batch > 1 and case.load:
        raise UsageError(f"{suite.name}: batch is of engines in process, concurrency of servers: give one of them.")
    if case.depth and case.prompt_format == "chat":
        raise UsageError(f"{suite.name}: depth fills the KV cache with plain text: set workload.prompt_format to plain.")
    if "draft_tokens" in point and not case.draft:
        raise UsageError(f"{suite.name}: draft_tokens needs a model that drafts: give draft.")
    if point["weights"] == "random" and (case.adapter or case.target or case.draft):
        raise UsageError(f"{suite.name}: random weights take no adapter, draft or server: leave `weights: random` out there.")


_NO_PART_OF_TRAINING = {
    "load": "concurrency, rate or trace", "sampling": "temperature", "batch": "batch", "depth": "depth", "draft": "draft",
    "compile_mode": "compile", "kv_cache": "kv_cache", "kv_dtype": "kv_dtype", "prompt_cache": "prompt_cache",
    "log_probabilities": "log_probabilities", "adapter": "adapter", "prompt_format": "prompt_format",
}  # fmt: skip
"""Fields of a case that only generating heeds, and what a suite calls them."""


def _ignored_in_training(suite: Suite, point: dict[str, Any], case: Case) -> list[str]:
    found = [word for name, word in _NO_PART_OF_TRAINING.items() if getattr(case, name) != Case.model_fields[name].default]
    if suite.workload.prompt_tokens or "prompt_tokens" in point:
        found.append("prompt_tokens")
    return found + (["quality"] if suite.quality else [])
