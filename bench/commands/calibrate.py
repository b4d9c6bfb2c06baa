"""`bench calibrate`: how far this machine's verdicts can be trusted."""

import click

from bench.commands.options import store_option


@click.command("calibrate")
@store_option
def calibrate(store_url: str) -> int:
    """To come."""
    raise NotImplementedError
