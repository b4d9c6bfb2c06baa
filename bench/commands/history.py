"""`bench history`: how metrics went from run to run, and where they changed."""

import click

from bench.commands.options import store_option


@click.command("history")
@store_option
def history(store_url: str) -> int:
    """To come."""
    raise NotImplementedError
