"""A report file before its format is known: its JSON values, and typed access to them with one-sentence errors.

What a format means is left to its reader.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from results.errors import UsageError
from results.format import plain
from results.record import digest
from results.validation import field_path

Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
"""Of a duration, or since the Unix epoch."""
M = TypeVar("M", bound=BaseModel)


class Foreign(BaseModel):
    """Base of what a reader asks for in another tool's report: fields that it does not name are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


@dataclass(frozen=True)
class Source:
    """One file."""

    name: str
    """As messages call it."""
    rows: tuple[Any, ...]
    """A list's elements, the objects of JSON Lines, or the one object that the file is."""
    content_id: str
    """Hash of the text."""
    beside: Callable[[str], str | None] = field(default=lambda _: None, compare=False)
    """The text of a file with this name in the same folder; `None` where there is none."""

    @property
    def first(self) -> dict[str, Any]:
        """The first row, which tells the format; empty where it is no object."""
        return self.rows[0] if self.rows and isinstance(self.rows[0], dict) else {}

    def companion(self, name: str) -> "Source | None":
        """The file with this name in the same folder."""
        text = self.beside(name)
        return None if text is None else read_source(name, text)

    def checked(self, value: Any, model: type[M], place: str = "") -> M:
        """A part of the file as the fields that a reader knows.

        Raises:
            UsageError: it is none; the first finding with its place.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            path = field_path((place, *first["loc"]) if place else first["loc"])
            message = first["msg"][0].lower() + first["msg"][1:]
            raise UsageError(f"{self.name}: {path or 'the report'}: {message}: take the file as the tool wrote it.") from None


def read_source(name: str, text: str, beside: Callable[[str], str | None] = lambda _: None) -> Source:
    """A file's JSON or JSON Lines.

    Raises:
        UsageError: it is neither, or empty.
    """
    shown = plain(name)
    if not text.strip():
        raise UsageError(f"{shown} is empty: take the file as the tool wrote it.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        rows = _lines(text)
        if rows is None:
            reason = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its nesting or a number"
            raise UsageError(f"{shown} is neither JSON nor JSON Lines, or it was cut off ({reason}).") from None
    else:
        rows = value if isinstance(value, list) else [value]
    return Source(shown, tuple(rows), digest(text.encode("utf-8", "replace").hex()), beside)


def _lines(text: str) -> list[Any] | None:
    """One value per line, where there are several; `None` where one is not."""
    lines = [line for line in text.split("\n") if line.strip()]  # a string may hold any other line separator
    try:
        return [json.loads(line) for line in lines] if len(lines) > 1 else None
    except (ValueError, RecursionError):
        return None


def epoch(seconds: float) -> datetime:
    """A moment from Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def whole_mean(values: Sequence[float]) -> int | None:
    """The mean, where it is a whole number: lengths that were asked for are, those that came about are not."""
    mean = sum(values) / len(values) if values else None
    return int(mean) if mean is not None and mean == int(mean) else None
