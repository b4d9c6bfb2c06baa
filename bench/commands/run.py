"""`bench run`: expand a suite, measure it, store every result, print the table."""

import sys
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from bench.suite import Expansion, Suite
    from results.records import Report, Run
    from results.store import Store

KINDS = (
    "oom", "timeout", "crash", "bad_output", "engine_error", "unsupported", "missing_dependency", "missing_weights", "pruned",
)  # fmt: skip


def _suites(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from bench.suite import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


@click.command()
@click.argument("suite", required=False, shell_complete=_suites)
@click.option("--dry-run", is_flag=True, help="Show the cases and measure nothing.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a default or an axis, e.g. processes=1.")
@click.option("--tag", "tags", multiple=True, help="Name the run; more than one may be given.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped: the rest, and only the rest.")
@click.option("--retry-failed", is_flag=True, help="With --resume: try failed cases again.")
@click.option(
    "--allow-failures", "allowed", multiple=True, type=click.Choice(KINDS), help="Failures of this kind keep exit code 0."
)
@click.option("--seed", type=int, help="Of the order of loads and cases; random unless given.")
@click.option("--quiet", is_flag=True, help="No progress on the terminal.")
@store_option
@json_option
@click.pass_context
def run(
    context: click.Context, suite: str | None, dry_run: bool, settings: tuple[str, ...], tags: tuple[str, ...], resume: str | None,
    retry_failed: bool, allowed: tuple[str, ...], seed: int | None, quiet: bool, store_url: str, as_json: bool,
) -> int:  # fmt: skip
    """Measure SUITE: a built-in name (see `bench list`) or the path of a YAML file."""
    from bench.commands.tag import check_tags
    from results.errors import UsageError

    if (suite is None) == (resume is None):
        raise UsageError("Name a suite to run, or a run with --resume: `bench list` shows the built-in suites.")
    if resume and (settings or dry_run):
        raise UsageError("--resume goes on with the run as it was planned: leave --set and --dry-run out.")
    check_tags(tags)
    silent = quiet or as_json or not sys.stderr.isatty()
    if resume:
        return _resume(resume, store_url, tags, retry_failed=retry_failed, allowed=allowed, silent=silent, as_json=as_json)
    return _start(str(suite), store_url, settings, tags, allowed, seed, dry_run=dry_run, silent=silent, as_json=as_json)


def _start(
    reference: str, store_url: str, settings: tuple[str, ...], tags: tuple[str, ...], allowed: tuple[str, ...], seed: int | None, *,
    dry_run: bool, silent: bool, as_json: bool,
) -> int:  # fmt: skip
    import secrets
    from datetime import UTC, datetime

    from bench.environment import environment, git_state
    from bench.schedule import rounds
    from bench.suite import anchor, find_suite, load_suite, suite_hash
    from results.records import Run
    from results.store import Store

    path = find_suite(reference)
    given = load_suite(path, parse_settings(settings))
    suite = anchor(given, path.parent)
    expansion = _expand(suite)
    if dry_run:
        _show_plan(suite, expansion, as_json=as_json)
        return 0
    commit, dirty = git_state()
    started = datetime.now(UTC)
    one = Run(
        run_id=f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        suite=suite.name,
        suite_hash=suite_hash(given),
        suite_source=suite.source(),
        planned=expansion.planned,
        seed=secrets.randbits(31) if seed is None else seed,
        environment=environment({planned.case.engine for planned in expansion.planned}),
        command=("bench", "run", reference, *(f"--set={setting}" for setting in settings)),
        git_commit=commit,
        git_dirty=dirty,
        started_at=started,
    )
    with Store.writing(store_url) as store:
        store.add_run(one)
        store.tag(one.run_id, tags)
        return _measure(
            one, suite, expansion, rounds(one.planned, one.seed), store, store_url, allowed, silent=silent, as_json=as_json
        )


def _resume(
    reference: str,
    store_url: str,
    tags: tuple[str, ...],
    *,
    retry_failed: bool,
    allowed: tuple[str, ...],
    silent: bool,
    as_json: bool,
) -> int:
    from datetime import UTC, datetime

    from bench.schedule import pending, rounds
    from bench.suite import Suite
    from results.errors import NotComparableError, UsageError
    from results.records import RunEvent
    from results.store import Store
    from results.validation import validate

    with Store.reading(store_url) as store:
        run_id = store.resolve_run(reference)
    with Store.writing(store_url) as store:
        report = store.report(run_id)
        suite = validate(report.run.suite_source, Suite, f"the suite of run {run_id}")
        expansion = _expand(suite)
        if {one.case.case_id for one in expansion.planned} != {one.case.case_id for one in report.run.planned}:
            raise NotComparableError(
                f"Run {run_id} planned other cases than its suite means here now (weights, device or threads changed): start a new run."
            )
        _same_machine(report)
        store.tag(run_id, tags)
        left = pending(
            rounds(report.run.planned, report.run.seed), report.measurements, report.failures, retry_failed=retry_failed
        )
        if not left and report.status == "finished":
            raise UsageError(f"Run {run_id} is finished: nothing is left of it. `bench show {run_id}` shows it.")
        store.add_event(RunEvent(run_id=run_id, at=datetime.now(UTC), kind="resumed"))
        return _measure(report.run, suite, expansion, left, store, store_url, allowed, silent=silent, as_json=as_json)


def _same_machine(report: "Report") -> None:
    from bench.environment import environment
    from results.errors import NotComparableError
    from results.records import HARD_FACTS

    here = environment({planned.case.engine for planned in report.run.planned}).facts
    there = report.run.environment.facts
    changed = sorted(key for key in HARD_FACTS if here.get(key) != there.get(key))
    if changed:
        raise NotComparableError(
            f"Run {report.run.run_id} began on another machine ({', '.join(changed)} differ): start a new run here."
        )


def _measure(
    one: "Run", suite: "Suite", expansion: "Expansion", batches: list[Any], store: "Store", store_url: str, allowed: tuple[str, ...], *,
    silent: bool, as_json: bool,
) -> int:  # fmt: skip
    """Measure, say how it ended, print the table; the exit code."""
    import signal
    from datetime import UTC, datetime

    from filelock import FileLock, Timeout
    from rich.console import Console

    from bench.cache import cache_folder
    from bench.contents import keeper
    from bench.launch import Outside, launch
    from bench.progress import Bars, Quiet
    from bench.sweep import Content, Sweep
    from bench.weights import prepare
    from bench.workloads import load_prompts
    from results.errors import UsageError
    from results.records import RunEvent

    console = Console(stderr=True)
    lock = FileLock(cache_folder() / "runs" / f"{one.run_id}.lock")
    lock_folder = cache_folder() / "runs"
    lock_folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"Run {one.run_id} is still going on in another process: wait for it, or end that first.") from None
    total = sum(len(batch.cases) for batch in batches)
    for number in (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())):
        signal.signal(number, signal.default_int_handler)
    ending = RunEvent(run_id=one.run_id, at=datetime.now(UTC), kind="failed", detail="internal error")
    try:
        with Quiet() if silent else Bars(console, total) as listener:
            Sweep(
                run=one,
                models=expansion.models,
                prompts=expansion.prompts,
                warmup=load_prompts("warmup"),
                content=Content(suite.content, keeper(suite.content, cache_folder() / "content-key")),
                store=store,
                prepare=prepare,
                launch=lambda job, run_id, listen: launch(job, run_id, listen, Outside()),
                listener=listener,
            ).go(batches)
        ending = ending.model_copy(update={"kind": "finished", "detail": "", "at": datetime.now(UTC)})
    except KeyboardInterrupt:
        ending = ending.model_copy(update={"kind": "interrupted", "detail": "", "at": datetime.now(UTC)})
    finally:
        store.add_event(ending)
        lock.release()
    report = store.report(one.run_id)
    code = exit_code(report, allowed)
    _print(report, code, store_url=store_url, as_json=as_json)
    return code


def exit_code(report: "Report", allowed: tuple[str, ...] = ()) -> int:
    """130 when interrupted, 5 when a case failed or nothing at all was measured, else 0."""
    if report.status == "interrupted":
        return 130
    excused = {"unsupported", "pruned", *allowed}
    kinds = {failure.kind for failure in report.failures if failure.kind != "interrupted"}
    nothing = not report.measurements and not (kinds and kinds <= set(allowed))
    return 5 if kinds - excused or nothing else 0


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`KEY=VALUE` pairs, values read as YAML."""
    import yaml

    from results.errors import UsageError

    found: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise UsageError(f"--set {setting}: write KEY=VALUE, for example --set processes=1.")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is not valid YAML.") from None
    return found


def _expand(suite: "Suite") -> "Expansion":
    from bench.environment import this_machine
    from bench.suite import expand
    from bench.weights import resolve

    return expand(suite, this_machine(), resolve)


def _show_plan(suite: "Suite", expansion: "Expansion", *, as_json: bool) -> None:
    import json

    from bench.tables import Column, console, table

    planned = expansion.planned
    if as_json:
        cases = [{"case_id": one.case.case_id, "label": one.label, **one.model_dump(mode="json")} for one in planned]
        click.echo(json.dumps({"suite": suite.name, "cases": cases}))
        return
    columns = [
        Column("Case", [one.label for one in planned], wraps=30),
        Column("Processes", [str(one.processes) for one in planned], justify="right"),
        Column("Iterations", [str(one.iterations) for one in planned], justify="right"),
        Column("Weights from", [one.case.source_precision or "" for one in planned]),
        Column("Tags", [", ".join(one.tags) for one in planned], wraps=6),
        Column("Id", [one.case.case_id for one in planned]),
    ]
    screen = console()
    screen.print(f"{suite.name}: {suite.question}")
    screen.print(table(columns))
    loads = len({one.case.config_id for one in planned})
    screen.print(f"{len(planned)} cases in {loads} loads, {sum(one.processes for one in planned)} measurements.")


def _print(report: "Report", code: int, *, store_url: str, as_json: bool) -> None:
    import json

    from bench.tables import cases_table, console
    from results.summary import run_to_dict, summarize

    if as_json:
        click.echo(json.dumps(run_to_dict(report) | {"exit_code": code}))
        return
    run_id = report.run.run_id
    screen = console()
    screen.print(cases_table(summarize(report)))
    screen.print(f"\nRun {run_id} {report.status}, stored in {store_url}.")
    if report.status != "finished":
        screen.print(f"Go on with: bench run --resume {run_id}")
    screen.print(f"Look closer: bench show {run_id}, bench export {run_id} --format html --output report.html, bench dashboard")
