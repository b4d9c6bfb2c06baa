"""`bench calibrate`: how far verdicts on this machine can be trusted. What is replayed, and how, is `results.calibration`'s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from results.store import Store
    from results.stored_runs import StoredRun


@click.command()
@click.argument("suite", required=False)
@click.option(
    "--runs", type=click.IntRange(min=1), default=20, show_default=True, help="How many runs to replay, the newest ones."
)
@click.option(
    "--run", "references", multiple=True, metavar="REF", help="Replay this run: an id, its beginning, or a tag. Repeatable."
)
@click.option("--policy", "policy_file", metavar="FILE", type=click.Path(path_type=Path), help="Judge by this policy.")
@click.option("--trials", type=click.IntRange(min=100, max=20_000), default=2000, show_default=True, help="Replays of each kind.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the drawing: the same gives the same.")
@store_option
@json_option
def calibrate(
    suite: str | None, runs: int, references: tuple[str, ...], policy_file: Path | None, trials: int, seed: int, store_url: str,
    as_json: bool,
) -> int:  # fmt: skip
    """Replay stored processes to see how often verdicts on SUITE (that of the newest run by default) are wrong on its machine.

    Tells how often unchanged code is called a regression, which steps are found and how soon, and proposes margins. Nothing is
    measured. What was found is stored, and shown by `bench compare` and `bench gate`. Exits 3 when too few processes are stored.
    """
    from datetime import UTC, datetime

    from bench.calibration_table import calibration_table, rules
    from bench.tables import console
    from results.calibration import calibrate as replayed
    from results.policy import Policy, load_policy
    from results.store import Store

    if "" in (suite, *references):  # a variable that is not set must not choose other runs
        raise click.UsageError(f"{'SUITE' if suite == '' else '--run'} is empty: give it a value, or leave it out.")
    policy = load_policy(policy_file) if policy_file else Policy()
    with Store.reading(store_url) as store:
        chosen, others = _chosen(store, suite, runs, references)
        reports = [store.report(run.run_id) for run in chosen]
    if others:
        runs_are = (
            "1 run of another machine or suite is" if len(others) == 1 else f"{len(others)} runs of other machines or suites are"
        )
        click.echo(f"{runs_are} left out.", err=True)
    done = replayed(reports, policy, trials=trials, seed=seed, at=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({**done.to_dict(), "rules": rules(done)}, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        console().print(calibration_table(done))
    with Store.writing(store_url) as store:
        store.add_calibration(done.found)
    return 0


def _chosen(store: Store, suite: str | None, count: int, references: tuple[str, ...]) -> tuple[list[StoredRun], list[StoredRun]]:
    """The newest runs of the suite on the machine of the newest of them, and those of other machines or suites.

    Raises:
        UsageError: there is none.
    """
    from results.errors import UsageError
    from results.stored_runs import stored_runs

    known = stored_runs(store.engine)
    if references:
        named = {store.resolve_run(one) for one in references}
        wanted = [run for run in known if run.run_id in named and suite in (None, run.suite)]
    else:
        ended = [run for run in known if run.kind == "bench" and run.status in ("finished", "interrupted")]
        named = {run.run_id for run in ended if run.suite == (suite or ended[0].suite)}
        wanted = [run for run in ended if run.run_id in named]
    if not wanted:
        of_suite = f" of suite {suite!r}" if suite else ""
        raise UsageError(
            f"No run{of_suite} to replay is in this store: `bench show` lists what is there, and `bench run` measures."
        )
    mine = [run for run in wanted if (run.suite, run.machine_id) == (wanted[0].suite, wanted[0].machine_id)]
    taken = mine if references else mine[:count]
    return taken, [run for run in known if run.run_id in named and run not in mine]
