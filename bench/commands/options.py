"""Options that several commands share."""

import click

store_option = click.option(
    "--store",
    "store_url",
    envvar="BENCH_STORE",
    default="sqlite:///.bench/results.db",
    show_default=True,
    metavar="URL",
    help="The store: a database URL or a path (or BENCH_STORE).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
