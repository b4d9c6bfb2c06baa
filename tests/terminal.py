"""Commands run in this process, and their output compared with golden files.

`GOLDEN_WRITE=1 pytest …` writes the golden files anew; look at what changed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

from bench.cli import bench
from results.errors import GemmeterError

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str
    error: str
    """The sentence of the error, if the command ended with one."""


def run_bench(*arguments: str, columns: int = 120) -> Outcome:
    """Run a command with standard input that is no terminal."""
    result = CliRunner().invoke(bench, arguments, standalone_mode=False, env={"COLUMNS": str(columns)})
    match result.exception:
        case None:
            return Outcome(int(result.return_value or 0), result.stdout, "")
        case GemmeterError() as error:
            return Outcome(error.exit_code, result.stdout, str(error))
        case click.ClickException() as error:
            return Outcome(2, result.stdout, error.message)
        case error:
            raise error


def same_as_golden(name: str, text: str) -> None:
    """Compare with `tests/golden/NAME`, spaces at the ends of lines aside."""
    shown = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    path = GOLDEN / name
    if os.environ.get("GOLDEN_WRITE"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")
