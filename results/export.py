"""Exports: a report in each format that people and other machines read, and files that are written whole or not at all."""

import os
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


def portable(report: Report) -> Report:
    """The report without this machine's paths: in the suite's source, which only resuming needs, they become their last part."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [named(inner) for inner in value]
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return report.model_copy(update={"run": report.run.model_copy(update={"suite_source": named(report.run.suite_source)})})


FORMATS: dict[str, Callable[[Report], str]] = {
    "json": lambda report: portable(report).to_json(indent=2) + "\n",
    "csv": tidy_csv,
    "md": markdown,
    "tutorial-json": tutorial_json,
    "html": html_page,
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
