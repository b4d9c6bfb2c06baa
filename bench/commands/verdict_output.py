"""What `bench compare` and `bench gate` share: their options, and telling an outcome on standard output and in files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from results.decided import Calibration
    from results.outcome import Outcome
    from results.policy import Policy
    from results.sides import Side

FORMATS = ("text", "md", "json", "html", "junit", "github")


def verdict_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands."""
    path = click.Path(path_type=Path)
    formats = click.Choice(FORMATS)
    for option in (
        json_option,
        store_option,
        click.option(
            "--output", "-o", "outputs", multiple=True, metavar="FILE", type=path,
            help="Write this file too; its suffix says how: .md, .html, .json, or .xml for JUnit. Repeatable.",
        ),
        click.option("--format", "format_name", type=formats, default="text", show_default=True, help="Of standard output."),
        click.option(
            "--allow-env-diff", "allow", multiple=True, metavar="KEY", help="Compare although this fact of the machines differs.",
        ),
        click.option("--policy", "policy_file", metavar="FILE", type=path, help="What counts, with which margins; a YAML file."),
    ):  # fmt: skip
        command = option(command)
    return command


def read_policy(path: Path | None, outputs: Sequence[Path]) -> Policy:
    """The policy that is asked for.

    Raises:
        UsageError: it is not valid, or one of the files to write has no suffix that says how; before anything is done.
    """
    from results.export_comparison import format_of
    from results.policy import Policy, load_policy

    for output in outputs:
        format_of(output)
    return Policy() if path is None else load_policy(path)


def options_again(policy_file: Path | None, allow: Sequence[str]) -> tuple[str, ...]:
    """The options that decide the verdict, for the command that repeats it; of a path elsewhere only the name, as reports travel."""
    policy = () if policy_file is None else ("--policy", portable_reference(str(policy_file)))
    return (*policy, *(word for key in allow for word in ("--allow-env-diff", key)))


def reference_again(given: str, side: Side) -> str:
    """What names the same side later: the run itself where it is one of the store's."""
    is_file = given.endswith(".json")
    return side.run_ids[0] if len(side.run_ids) == 1 and not is_file else portable_reference(given)


def portable_reference(given: str) -> str:
    return Path(given).name if Path(given).is_absolute() else given


def calibration_of(sides: tuple[Side, Side] | None, store_url: str) -> Calibration | None:
    """What `bench calibrate` found for B's suite on B's machine; `None` also where there is no store to look in."""
    from results.errors import StoreError
    from results.store import Store

    if sides is None:
        return None
    run = sides[1].report.run
    try:
        with Store.reading(store_url) as store:
            return store.calibration(run.suite, run.environment.machine_id)
    except StoreError:
        return None


def tell(outcome: Outcome, format_name: str, outputs: Sequence[Path], *, github: bool = False) -> int:
    """Print an outcome, write its files, and give the exit code. A refusal's sentence goes to standard error too.

    Args:
        github: print annotations as well, and append the Markdown to the file that `GITHUB_STEP_SUMMARY` names.
    """
    from results.export import write_whole
    from results.export_comparison import FORMATS as RENDER
    from results.export_comparison import format_of
    from results.format import plain

    token = secrets.token_hex(16)
    if github:  # what is measured could look like a workflow command
        click.echo(f"::stop-commands::{token}")
    if format_name != "text":
        click.echo(RENDER[format_name](outcome).encode(), nl=False)
    else:
        _print_table(outcome)
    if github:
        click.echo(f"::{token}::")
        click.echo(RENDER["github"](outcome), nl=False)
    for output in outputs:
        write_whole(output, RENDER[format_of(output)](outcome))
    if github and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        _append(Path(summary), RENDER["md"](outcome))
    if outcome.refusal:  # on one line, of which none is a workflow command
        click.echo(f"Error: {' '.join(plain(outcome.refusal).split())}", err=True)
    return outcome.exit_code


def _append(summary: Path, text: str) -> None:
    from results.errors import UsageError

    try:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"GITHUB_STEP_SUMMARY names {summary}, which cannot be written: {error.strerror}.") from error


def _print_table(outcome: Outcome) -> None:
    from bench.comparison_table import comparison_table
    from bench.tables import console

    console().print(comparison_table(outcome))
