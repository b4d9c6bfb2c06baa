"""What a suite means on this machine: its matrix becomes planned cases, each with its model, prompts, server and load."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.adapters import Adapter, resolve_adapter
from bench.cases import Machine, Parts, computed_in, load_of, planned_case, target_of, with_optimization
from bench.context import context_of
from bench.engines import support
from bench.engines.protocol import Server
from bench.random_weights import random_model
from bench.servers import find_server
from bench.serving import Serving, next_loads, requests_of, requests_to_prove
from bench.suite import BUILT_IN, ITERATIONS, Point, Suite
from bench.trace import Trace, read_trace
from bench.weights import ResolvedModel, served
from bench.workloads import Prompts, load_prompts
from results.cases import Load, PlannedCase
from results.errors import UsageError
from results.limits import parse_limits
from results.validation import nearest

QUALITY_PROMPTS = "five-questions"
"""What a quality pass asks, whatever the suite's speed prompts: scores of different suites stay comparable."""
MOST_REQUESTS = 1_000_000
"""In one process: all prompts of a load are made before it starts."""
LONGEST_SCHEDULE_S = 86400.0
MOST_CLIENTS = 64
MOST_TO_PROVE = 100_000
"""Requests at each rate of a search: p99.99 takes fewer, p99.999 takes days."""
PROMPT_S = 0.1
"""Room to make one prompt, which may be several calls to a tokenizer elsewhere."""


@dataclass(frozen=True)
class Expansion:
    """What a suite means on this machine."""

    planned: tuple[PlannedCase, ...]
    models: dict[str, ResolvedModel]
    """By `Case.weights`."""
    prompts: dict[str, Prompts]
    """By `Case.workload`."""
    pinned: dict[str, str]
    """References to moving hub revisions → the same at the commit that was found."""
    servers: dict[str, Server] = field(default_factory=dict)
    """By `Case.target`."""
    trace: Path | None = None
    adapters: dict[str, Path] = field(default_factory=dict)
    """By `Case.adapter`."""


def expand(
    suite: Suite, machine: Machine, resolve: Callable[[str, str], ResolvedModel], given: Mapping[str, str] | None = None
) -> Expansion:
    """The planned cases of a suite, one quality pass per configuration last.

    Args:
        resolve: (reference, field path) → model.
        given: URLs of servers by name, from the command line.

    Raises:
        UsageError: an empty matrix, a duplicate, an exclude that matches nothing, an unknown model, engine, server or prompt set.
    """
    prompts = load_prompts(suite.workload.prompts)
    limits = _limits(suite)
    models: dict[tuple[str, str], ResolvedModel] = {}
    adapters: dict[str, Adapter] = {}

    def known(kind: str, reference: str, where: str) -> ResolvedModel:
        if (kind, reference) not in models:
            made = {"served": lambda: served(reference), "random": lambda: random_model(reference, where)}
            models[kind, reference] = made.get(kind, lambda: resolve(reference, where))()
        return models[kind, reference]

    servers: dict[str, Server] = {}
    planned: dict[str, PlannedCase] = {}
    trace = read_trace(Path(suite.workload.trace), speed=suite.workload.trace_speed) if suite.workload.trace else None
    for where, tags, point in _points(suite):
        reference, is_served = point["model"], support(point["engine"]).weights == "served"
        kind = "served" if is_served else point["weights"]
        model = known(kind, reference, where)
        drafts = known(point["weights"], point["draft"], f"{suite.name}: draft") if "draft" in point else None
        if "adapter" in point and point["adapter"] not in adapters:
            adapters[point["adapter"]] = resolve_adapter(point["adapter"])
        target = target_of(suite, point) if is_served else None
        if target and target not in servers:
            servers[target] = find_server(target, suite.servers, given or {})
        point.setdefault("iterations", len(trace.entries) if trace else ITERATIONS)
        given_load = load_of(suite, point, trace.first(point["iterations"], point["min_seconds"]).digest if trace else None)
        for load in _swept(suite, suite.serving, given_load) if suite.serving else (given_load,):
            parts = Parts(model, prompts, drafts, adapters.get(point.get("adapter", "")), target, load, limits)
            one = _with_room(_with_time(planned_case(suite, point, tags, parts, machine), suite.serving, trace), trace)
            if one.case.case_id in planned:
                raise UsageError(f"{suite.name}: {where}: repeats the case {one.label}: remove one of the two.")
            _check_size(suite, one)
            planned[one.case.case_id] = one
    if not planned:
        raise UsageError(f"{suite.name}: no case is left: give `matrix` or `include` some, and `exclude` fewer.")
    if unused := sorted((given or {}).keys() - servers.keys()):
        hint = nearest(unused[0], servers) if servers else ": leave it out."
        raise UsageError(f"--server {unused[0]}: no case of {suite.name} asks it{hint}")
    asked = load_prompts(QUALITY_PROMPTS)
    return Expansion(
        planned=(*planned.values(), *_quality_passes(suite, list(planned.values()), asked)),
        models={model.weights: model for model in models.values()},
        prompts={one.digest: one for one in (prompts, asked)},
        pinned={text: f"{model.reference}@{model.revision}" for (_, text), model in models.items() if model.revision},
        adapters={one.digest: one.path for one in adapters.values()},
        servers=servers,
        trace=Path(suite.workload.trace) if suite.workload.trace else None,
    )


def _limits(suite: Suite) -> str | None:
    if not suite.limits:
        return None
    limits = parse_limits(suite.limits)
    if odd := next((term for term in limits.terms if term.percentile is not None), None):
        raise UsageError(
            f"{suite.name}: limits: {odd.text} has a percentile, but each request keeps limits or not: leave it out."
        )
    return limits.text


def with_load(planned: PlannedCase, load: Load, serving: Serving) -> PlannedCase:
    """The same case under another load of the serving sweep, with as many requests as it needs there.

    Args:
        planned: that of one request at a time, which has no more requests than the suite asks for.
    """
    case = planned.case.model_copy(update={"load": load})
    return _with_time(planned.model_copy(update={"case": case}), serving, None)


def _with_time(planned: PlannedCase, serving: Serving | None, trace: Trace | None) -> PlannedCase:
    """The case with as many requests as its load needs, and time for its prompts, its schedule, and a last conversation of
    which every request times out as often as it is sent."""
    load = planned.case.load
    if load is None:
        return planned
    iterations = requests_of(serving, load, planned.iterations, planned.processes) if serving else planned.iterations
    last_s = (
        trace.entries[min(iterations, len(trace.entries)) - 1].at_s if trace else iterations / load.rate if load.rate else 0.0
    )
    schedule_s = max(planned.min_seconds, last_s)
    prompts_s = PROMPT_S * max(iterations, (load.rate or 0.0) * planned.min_seconds * planned.case.turns)
    drain_s = planned.request_timeout_s * (planned.retries + 1) * planned.case.turns
    timeout_s = max(planned.timeout_s, prompts_s + 1.5 * schedule_s + drain_s + 60)
    return planned.model_copy(update={"iterations": iterations, "timeout_s": timeout_s})


def _with_room(planned: PlannedCase, trace: Trace | None) -> PlannedCase:
    """The case with its room for tokens, if its engine makes that when it loads."""
    if support(planned.case.engine).weights == "folder":
        return planned
    longest = max((one.prompt_tokens + one.output_tokens for one in trace.entries), default=0) if trace else 0
    return planned.model_copy(update={"context_tokens": context_of(planned.case, longest)})


def _check_size(suite: Suite, planned: PlannedCase) -> None:
    """
    Raises:
        UsageError: a load is larger than anybody means.
    """
    rate = planned.case.load.rate if planned.case.load else None
    if max(planned.iterations, (rate or 0.0) * planned.min_seconds) > MOST_REQUESTS:
        raise UsageError(
            f"{suite.name}: {planned.label} has more than {MOST_REQUESTS} requests: lower iterations, rate or min_seconds."
        )
    if rate and planned.iterations / rate > LONGEST_SCHEDULE_S:
        raise UsageError(f"{suite.name}: {planned.label} takes more than a day: raise rate, or lower iterations.")
    if planned.clients > MOST_CLIENTS:
        raise UsageError(
            f"{suite.name}: clients {planned.clients} is more than {MOST_CLIENTS}: one for each CPU core at the most is best."
        )


def _swept(suite: Suite, serving: Serving, given: Load | None) -> tuple[Load, ...]:
    """
    Raises:
        UsageError: a load is given beside the sweep, or its proof takes too long.
    """
    if given:
        raise UsageError(
            f"{suite.name}: serving finds the loads by itself, but {given.label} is given: "
            "leave out concurrency, rate and workload.trace, or serving."
        )
    if (needed := requests_to_prove(serving)) > MOST_TO_PROVE:
        raise UsageError(
            f"{suite.name}: serving.find_max {serving.find_max} takes {needed} requests at each rate to prove, more than "
            f"{MOST_TO_PROVE}: choose a lower percentile, or less confidence."
        )
    return next_loads(serving, ())


def _points(suite: Suite) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """(field path, tags, values) of each point of the matrix that is not excluded, then of each include."""
    base = BUILT_IN | suite.defaults.model_dump(exclude_none=True)
    axes = suite.matrix.model_dump(exclude_none=True) if suite.matrix else {}
    for name, values in axes.items():
        for position, value in enumerate(values):
            if value in values[:position]:
                raise UsageError(f"{suite.name}: matrix.{name}[{position}]: repeats {value!r}: remove one of the two.")
    unused = dict(enumerate(suite.exclude))
    for indices in itertools.product(*(range(len(values)) for values in axes.values())) if axes else ():
        given = base | {name: axes[name][index] for name, index in zip(axes, indices, strict=True)}
        point = with_optimization(suite, given)
        meant = point | {"dtype": computed_in(point)} if suite.exclude else point
        hits = [n for n, rule in enumerate(suite.exclude) if _matches(rule, meant)]
        for hit in hits:
            unused.pop(hit, None)
        if not hits:
            where = f"matrix.model[{indices[list(axes).index('model')]}]" if "model" in axes else "defaults.model"
            yield where, (), _complete(suite, point, "matrix")
    if unused:
        raise UsageError(f"{suite.name}: exclude[{min(unused)}]: matches no case of the matrix: correct or remove it.")
    for row, include in enumerate(suite.include):
        values = include.model_dump(exclude_none=True, exclude={"tags"})
        point = _complete(suite, base | values, f"include[{row}]")
        yield f"include[{row}].model", include.tags, with_optimization(suite, point)


def _matches(rule: Point, point: dict[str, Any]) -> bool:
    return all(point.get(name) == value for name, value in rule.model_dump(exclude_none=True).items())


def _complete(suite: Suite, point: dict[str, Any], where: str) -> dict[str, Any]:
    if "model" not in point:
        raise UsageError(f"{suite.name}: {where}.model: is missing: name a model, for example gemma-3-270m.")
    return point


def _quality_passes(suite: Suite, speed: list[PlannedCase], prompts: Prompts) -> list[PlannedCase]:
    """One quality pass per configuration: greedy, to the end of sequence, in one process."""
    if not suite.quality:
        return []
    firsts: dict[str, PlannedCase] = {}
    for one in speed:
        if one.case.purpose == "speed" and not one.case.has_random_weights:
            firsts.setdefault(one.case.config_id, one)
    asked = {
        "purpose": "quality", "workload": prompts.digest, "prompt_tokens": None, "output_tokens": suite.quality_tokens,
        "stop": "eos", "load": None, "shared_prefix_tokens": None, "prefix_hit_rate": None, "turns": 1, "batch": 1,
        "depth": 0, "sampling": None,
    }  # fmt: skip
    return [
        _with_room(
            one.model_copy(
                update={
                    "case": one.case.model_copy(update=asked),
                    "processes": 1,
                    "iterations": len(prompts.prompts),
                    "min_seconds": 0.0,
                    "tags": (),
                    "limits": None,
                    "scorers": suite.quality,
                }
            ),
            None,
        )
        for one in firsts.values()
    ]
