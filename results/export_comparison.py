"""An outcome in each format that people and machines read, by the name of the format or a file's suffix."""

from collections.abc import Callable
from pathlib import Path

from results.annotations import annotations
from results.errors import UsageError
from results.export_comparison_html import comparison_html
from results.export_comparison_md import comparison_markdown
from results.junit import junit_xml
from results.outcome import Outcome

FORMATS: dict[str, Callable[[Outcome], str]] = {
    "md": comparison_markdown,
    "json": Outcome.to_json,
    "html": comparison_html,
    "junit": junit_xml,
    "github": annotations,
}
SUFFIXES = {".md": "md", ".markdown": "md", ".json": "json", ".html": "html", ".htm": "html", ".xml": "junit"}


def format_of(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        UsageError: its suffix names none.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} does not tell its format: name it with {', '.join(SUFFIXES)}.")
    return SUFFIXES[path.suffix.lower()]
