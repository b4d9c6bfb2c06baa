"""What a run will do: a suite, its overrides and this machine become a `Run` and the batches that are still to measure."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.architecture import Architecture
from bench.engines import support
from bench.engines.protocol import Source
from bench.environment import environment, this_machine
from bench.estimate import estimate
from bench.expansion import Expansion, expand
from bench.free_memory import free_bytes
from bench.git import git_branch, git_state
from bench.model_config import configuration, stored
from bench.project import Project, with_defaults
from bench.quantizations import packages_of
from bench.schedule import Batch, pending, rounds, with_processes
from bench.servers import hashed, scrubbed, scrubbed_argument, with_urls
from bench.suite import MOST_PROCESSES, Suite, absolute, anchor, find_suite, load_suite, suite_hash, with_models
from bench.weights import resolve
from results.cases import MemoryEstimate, PlannedCase
from results.errors import NotComparableError, UsageError
from results.records import HARD_FACTS, VARIABLE, Environment, Report, Run
from results.validation import validate


@dataclass(frozen=True)
class Plan:
    run: Run
    suite: Suite
    expansion: Expansion
    batches: list[Batch]
    """What is still to measure, in its order."""
    resumed: bool = False


def preview(
    reference: str, overrides: dict[str, Any], given: Mapping[str, str] | None = None, find_max: str | None = None, *,
    skip_unfit: bool = False, project: Project | None = None,
) -> tuple[Suite, Expansion, str]:  # fmt: skip
    """A suite by name or path, made independent of its folder, what it means here, and the hash of it as written.

    Args:
        given: URLs of servers by name.
        find_max: limits instead of those that the suite's serving sweep looks for the highest rate of.
        skip_unfit: whether cases that do not fit shall be left out, even if the suite does not say so.
        project: its defaults hold where the suite says nothing; they are no part of the hash.

    Raises:
        UsageError: there is no such suite, or something in it is wrong.
    """
    path = find_suite(reference)
    named = {axis: overrides[axis] for axis in ("model", "draft", "adapter") if isinstance(overrides.get(axis), str)}
    overrides = overrides | {axis: absolute(reference, Path.cwd()) for axis, reference in named.items()}
    written = load_suite(path, overrides)
    if find_max:
        written = looking_for(written, find_max)
    if skip_unfit:
        written = written.model_copy(update={"skip_unfit": True})
    suite = anchor(with_defaults(written, project) if project else written, path.parent)
    suite = suite.model_copy(update={"servers": with_urls(suite.servers, given or {})})
    return suite, with_estimates(expand(suite, this_machine(), resolve, given)), suite_hash(written)


def with_estimates(expansion: Expansion, free: Callable[[str, int], int | None] = free_bytes) -> Expansion:
    """The same cases, each with what it is expected to take of its device's memory, where that is known.

    Args:
        free: (device, how many of them) → bytes that are free there.
    """
    known = {weights: configuration(model) for weights, model in expansion.models.items()}
    architectures = {weights: Architecture.from_config(config) for weights, config in known.items() if config}
    places = {(one.case.device, one.case.tensor_parallel) for one in expansion.planned}
    there = {place: free(*place) for place in places}

    def expected(planned: PlannedCase) -> MemoryEstimate | None:
        case = planned.case
        architecture, draft = architectures.get(case.weights), architectures.get(case.draft or "")
        if architecture is None or (case.draft and draft is None) or support(case.engine).weights == "served":
            return None
        gguf = support(case.engine).weights == "gguf"
        model, drafts = expansion.models[case.weights], expansion.models.get(case.draft or "")
        try:
            return estimate(
                case, architecture, there[case.device, case.tensor_parallel], draft, context_tokens=planned.context_tokens,
                stored=stored(model, case.quantization) if gguf else None,
                draft_stored=stored(drafts, drafts.stored or "") if gguf and drafts else None,
            )  # fmt: skip
        except KeyError:  # a format whose size is not known
            return None

    estimated = (one.model_copy(update={"estimate": expected(one)}) for one in expansion.planned)
    return replace(expansion, planned=tuple(estimated))


def looking_for(suite: Suite, limits: str) -> Suite:
    """The suite with a serving sweep that looks for the highest rate which keeps these limits.

    Raises:
        UsageError: the suite is no serving sweep, or the limits are not well formed.
    """
    if suite.serving is None:
        raise UsageError(f"--find-max: suite {suite.name} is no serving sweep: take serving-sweep, or give yours `serving`.")
    data = suite.source()
    data["serving"] = data.get("serving", {}) | {"find_max": limits}
    return validate(data, Suite, "--find-max")


def new_plan(
    reference: str, overrides: dict[str, Any], seed: int | None, command: Iterable[str],
    given: Mapping[str, str] | None = None, find_max: str | None = None, *, skip_unfit: bool = False,
    project: Project | None = None, paired_with: str | None = None,
) -> Plan:  # fmt: skip
    """A new run of a suite.

    Args:
        paired_with: the run that is measured in turn with this one.

    Raises:
        UsageError: as `preview`.
    """
    suite, expansion, digest = preview(reference, overrides, given, find_max, skip_unfit=skip_unfit, project=project)
    commit, dirty = git_state()
    started = datetime.now(UTC)
    run = Run(
        run_id=f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        suite=suite.name,
        suite_hash=digest,
        suite_source=scrubbed(with_models(suite, lambda reference: expansion.pinned.get(reference, reference)).source()),
        planned=expansion.planned,
        seed=secrets.randbits(31) if seed is None else seed,
        environment=_environment(expansion),
        command=tuple(map(scrubbed_argument, command)),
        git_commit=commit,
        git_dirty=dirty,
        git_branch=git_branch() if commit else None,
        paired_with=paired_with,
        started_at=started,
    )
    return Plan(run, suite, expansion, rounds(run.planned, run.seed))


def extended(run: Run, processes: int, references: Sequence[str] = ()) -> Run:
    """The run with more processes planned for these cases, or for all of them.

    Args:
        references: ids of cases, or their unique beginnings.

    Raises:
        UsageError: the run has no such case, is a serving sweep, or would have more than `MOST_PROCESSES`.
    """
    if processes > MOST_PROCESSES:
        raise UsageError(f"--processes {processes}: nobody needs more than {MOST_PROCESSES} of a case, so take fewer.")
    if run.suite_source.get("serving"):
        raise UsageError(
            f"Run {run.run_id} is a serving sweep, which decides itself how many processes a load needs: run it anew."
        )
    known = [planned.case.case_id for planned in run.planned]
    chosen = set()
    for reference in references:
        found = [case_id for case_id in known if case_id.startswith(reference)]
        if len(found) != 1:
            wrong = "no case" if not found else "several cases"
            raise UsageError(
                f"--case {reference}: run {run.run_id} has {wrong} of this id: `bench show {run.run_id} --json` lists them."
            )
        chosen |= set(found)
    return run.model_copy(update={"planned": with_processes(run.planned, processes, chosen)})


def rest_of(report: Report, *, retry_failed: bool, given: Mapping[str, str] | None = None) -> Plan:
    """What is left of a run that was stopped.

    Raises:
        UsageError: nothing is left, or it is no run of `bench run`, such as an imported one.
        NotComparableError: the machine, the weights or the threads are no longer those that it began with.
    """
    run = report.run
    if run.kind != "bench":
        raise UsageError(
            f"Run {run.run_id} was not measured by `bench run` here ({run.kind}), so there is nothing to go on with: run a suite."
        )
    suite = validate(run.suite_source, Suite, f"the suite of run {run.run_id}")
    expansion = expand(suite, this_machine(), resolve, given)
    here, there = _environment(expansion).facts, run.environment.facts
    packages = {package for planned in run.planned for package in support(planned.case.engine).packages}
    packages |= {package for planned in run.planned for package in packages_of(planned.case)}
    machine = environment(()).facts.keys()
    told = {key for key in here.keys() | there.keys() if key not in machine or key.startswith(VARIABLE)}
    if changed := sorted(key for key in HARD_FACTS | {"python", "gemmeter"} | packages | told if here.get(key) != there.get(key)):
        raise NotComparableError(
            f"Run {run.run_id} began in another environment ({', '.join(changed)} differ): go back to it, or start a new run here."
        )
    found = {one.case.case_id for one in run.planned if not (suite.serving and one.case.load)}
    if not found <= {one.case.case_id for one in expansion.planned} <= {one.case.case_id for one in run.planned}:
        raise NotComparableError(
            f"The suite of run {run.run_id} means other cases here now (weights, device or threads changed): start a new run."
        )
    batches = pending(rounds(run.planned, run.seed), report.measurements, report.failures, retry_failed=retry_failed)
    if not batches and report.status == "finished":  # a serving sweep that ended has nothing to look for any more
        raise UsageError(
            f"Run {run.run_id} is finished: nothing is left of it. `bench show {run.run_id}` shows it, and "
            f"`bench run --extend {run.run_id} --processes N` measures its cases in more processes."
        )
    return Plan(run, suite, expansion, batches, resumed=True)


def _environment(expansion: Expansion) -> Environment:
    cases = [planned.case for planned in expansion.planned]
    asked = dict.fromkeys(
        (case.engine, Source(server=expansion.servers.get(case.target or ""), model=expansion.models[case.weights].reference))
        for case in cases
    )  # fmt: skip
    found = environment(
        dict.fromkeys(case.engine for case in cases), asked, [name for case in cases for name in packages_of(case)]
    )
    servers = expansion.servers.values()
    named = {f"{one.name} url": hashed(one.url) for one in servers} | {f"{one.name} preset": one.preset for one in servers}
    return Environment(facts=found.facts | named)
