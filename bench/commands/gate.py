"""`bench gate`: compare with a baseline, and let a policy decide."""

import click

from bench.commands.options import json_option, store_option


@click.command()
@store_option
@json_option
def gate(store_url: str, as_json: bool) -> int:
    """Judge a run against a baseline."""
    raise NotImplementedError
