"""`bench show`: runs, one run's cases, their failures and requests."""

import click

from bench.commands.options import json_option, store_option


@click.command()
@click.argument("run", required=False)
@store_option
@json_option
def show(run: str | None, store_url: str, as_json: bool) -> None:
    """List the runs, or show one RUN (an id, its beginning, a tag, or `latest`)."""
    raise click.ClickException("not yet")
