"""Options that several commands share."""

import click

STORE = "sqlite:///.bench/results.db"
"""Unless the command line, the environment or the project says otherwise."""


def _store(context: click.Context, _: click.Parameter, given: str | None) -> str:
    if given or context.resilient_parsing:
        return given or STORE
    from pathlib import Path

    from bench.project import OWN, SHARED, find_project

    here = Path()
    if not any((here / name).is_file() for name in (OWN, SHARED)):
        return STORE
    return find_project(here).project.store or STORE


store_option = click.option(
    "--store",
    "store_url",
    envvar="BENCH_STORE",
    callback=_store,
    metavar="URL",
    help=f"The store: a database URL or a path; or BENCH_STORE, or `store` in gemmeter.toml; else {STORE}.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
