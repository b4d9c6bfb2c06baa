"""The command line `bench`: the list of commands, and the one place where errors become a sentence and an exit code."""

import sys

import click

from bench.commands.show import show


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gemmeter", prog_name="bench")
def bench() -> None:
    """Measure how language models run on this machine, remember it, and say so when it gets worse."""


for command in (show,):
    bench.add_command(command)


def main() -> None:
    """Run the command line; the exit code is the strongest thing that happened (see `docs/design.md`)."""
    from results.errors import GemmeterError

    try:
        code = bench.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except GemmeterError as error:
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
