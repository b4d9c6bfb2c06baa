"""`bench import`: reports of other machines and of other tools become runs."""

import click

from bench.commands.options import store_option


@click.command("import")
@store_option
def import_(store_url: str) -> int:
    """To come."""
    raise NotImplementedError
