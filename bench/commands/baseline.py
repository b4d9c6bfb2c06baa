"""`bench baseline`: what runs are judged against, moved with author and reason."""

import click

from bench.commands.options import store_option


@click.command("baseline")
@store_option
def baseline(store_url: str) -> int:
    """To come."""
    raise NotImplementedError
