"""Exports: a report in each format that people and other machines read, and files that are written whole or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from results.errors import GemmeterError, UsageError
from results.export_csv import tidy_csv
from results.export_html import html_page
from results.export_md import markdown
from results.records import Report
from results.tutorial_json import tutorial_json


def portable(report: Report, home: Path | None = None) -> Report:
    """The report without this machine's paths.

    In the suite's source, which only resuming needs, and in the command, a path becomes its last part; in what failures and
    events tell, the home folder becomes `~`.

    Args:
        home: the home folder; this user's when not given.
    """
    folder = str(home or Path.home()).rstrip("/")

    def homeless(text: str) -> str:
        return re.sub(rf"{re.escape(folder)}(?![\w-])", "~", text) if folder else text

    def argument(text: str) -> str:
        return homeless("=".join(map(_last_part, text.split("="))))

    run = report.run
    return report.model_copy(
        update={
            "run": run.model_copy(
                update={"suite_source": _named(run.suite_source), "command": tuple(map(argument, run.command))},
            ),
            "events": tuple(one.model_copy(update={"detail": homeless(one.detail)}) for one in report.events),
            "failures": tuple(
                one.model_copy(update={"message": homeless(one.message), "stderr_tail": homeless(one.stderr_tail)})
                for one in report.failures
            ),
        }
    )


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _named(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner) for inner in value]
    return _last_part(value) if isinstance(value, str) else value


def _last_part(text: str) -> str:
    """The last part of an absolute path or one below a home folder; any other text as it is."""
    return Path(text).name or text if re.match(r"(~\w*)?/", text) else text


def _portably(render: Callable[[Report], str]) -> Callable[[Report], str]:
    return lambda report: render(portable(report))


FORMATS: dict[str, Callable[[Report], str]] = {
    "json": _portably(lambda report: report.to_json(indent=2) + "\n"),
    "csv": _portably(tidy_csv),
    "md": _portably(markdown),
    "tutorial-json": _portably(tutorial_json),
    "html": _portably(html_page),
}

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "md", ".markdown": "md", ".html": "html", ".htm": "html"}


def format_of(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        UsageError: its suffix names none.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} does not tell its format: name it with {', '.join(SUFFIXES)}, or give --format.")
    return SUFFIXES[path.suffix.lower()]


def write_whole(path: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all: when it fails, what stood there before is untouched.

    Raises:
        UsageError: the place cannot be written: no such folder, no right, or no ordinary file.
        GemmeterError: the disk failed.
    """
    target = Path(os.path.realpath(path))  # through a link, which stays one
    beside = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise UsageError(f"{path} is no ordinary file: name another, or - for standard output.")
        with beside.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, beside)
        beside.replace(target)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}. Name a file in a folder that you may write to.") from error
    except OSError as error:
        raise GemmeterError(f"{path} could not be written: {error.strerror}. What stood there before is untouched.") from error
    finally:
        with suppress(OSError):
            beside.unlink()
