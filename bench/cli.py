"""The command line `bench`: the list of commands, and the one place where errors become a sentence and an exit code."""

import os
import sys
import traceback

import click

from bench.commands.alerts import alerts
from bench.commands.baseline import baseline
from bench.commands.calibrate import calibrate
from bench.commands.compare import compare
from bench.commands.completion import completion
from bench.commands.dashboard import dashboard
from bench.commands.db import db
from bench.commands.doctor import doctor
from bench.commands.engines import engines
from bench.commands.explain import explain
from bench.commands.export import export
from bench.commands.gate import gate
from bench.commands.history import history
from bench.commands.import_ import import_
from bench.commands.models import models
from bench.commands.rate import rate
from bench.commands.run import run
from bench.commands.show import show
from bench.commands.suites import list_suites, schema
from bench.commands.tag import rm, tag


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gemmeter", prog_name="bench")
def bench() -> None:
    """Measure how language models run on this machine, remember it, and say so when it gets worse."""


for command in (
    run,
    list_suites,
    schema,
    engines,
    models,
    doctor,
    completion,
    show,
    explain,
    compare,
    gate,
    baseline,
    history,
    calibrate,
    export,
    import_,
    rate,
    alerts,
    tag,
    rm,
    db,
    dashboard,
):
    bench.add_command(command)


def main() -> None:
    """Run the command line; the exit code is the strongest thing that happened (see `docs/design.md`)."""
    from results.errors import GemmeterError
    from results.format import plain

    try:
        code = bench.main(prog_name="bench", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except SystemExit:  # click and rich end so, with 1, when nobody reads their output any more: no verdict was told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 5
    except click.ClickException as error:
        error.show()
        code = 2
    except GemmeterError as error:
        click.echo(f"Error: {plain(str(error))}", err=True)
        code = error.exit_code
    except Exception as error:  # noqa: BLE001 the last resort: a fault of ours must never look like a verdict
        traceback.print_exc()
        click.echo(f"Internal error: {error!r}. This is a fault of Gemmeter: please report the lines above.", err=True)
        code = 5
    sys.exit(code if isinstance(code, int) else 0)
