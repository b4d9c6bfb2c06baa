"""Reads recorded loads: JSON lines that say when each request came and how long its prompt and its answer were.

Two forms, told apart by the first line: ours, and Mooncake's. Prompts of these lengths are left to `bench.load_prompts`.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from results.cases import PlannedCase
from results.errors import UsageError
from results.record import digest
from results.records import FailureKind
from results.validation import validate

BLOCK_TOKENS = 512
"""Of a prompt that each block id stands for; the last block may be shorter."""

Seconds = Annotated[FiniteFloat, Field(ge=0)]
Tokens = Annotated[int, Field(ge=1)]


class TraceEntry(BaseModel):
    """One request; a line of our form."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    at_s: Seconds
    """After the first request."""
    prompt_tokens: Tokens
    output_tokens: Tokens
    blocks: tuple[int, ...] = ()
    """One id for each 512 tokens from the prompt's beginning; requests that begin with equal ids begin with equal tokens."""

    @model_validator(mode="after")
    def _no_block_beyond_the_prompt(self) -> Self:
        if len(self.blocks) > math.ceil(self.prompt_tokens / BLOCK_TOKENS):
            raise ValueError(f"{len(self.blocks)} block ids for {self.prompt_tokens} tokens: give one for each {BLOCK_TOKENS}.")
        return self


class MooncakeLine(BaseModel):
    """One request as the public Mooncake traces have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    timestamp: Seconds
    """Milliseconds."""
    input_length: Tokens
    output_length: Tokens
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A recorded load; the first request comes at 0 s."""

    entries: tuple[TraceEntry, ...]

    @property
    def digest(self) -> str:
        """Hash of times, lengths and blocks: one trace in either form, or under another name, is one load."""
        return "t1-" + digest([[one.at_s, one.prompt_tokens, one.output_tokens, one.blocks] for one in self.entries])

    def first(self, at_least: int, min_seconds: float) -> "Trace":
        """The part that a case replays: so many requests, and all that come within so many seconds."""
        within = bisect_left(self.entries, min_seconds, key=lambda one: one.at_s)
        return Trace(self.entries[: max(at_least, within)])


class TraceChangedError(UsageError):
    """The file no longer holds the trace that was planned."""

    kind: FailureKind = "missing_dependency"


def replayed(path: Path, planned: PlannedCase, *, speed: float = 1.0) -> Trace:
    """The part of a trace that a planned case replays.

    Raises:
        UsageError: as `read_trace`.
        TraceChangedError: it is another one than when the case was planned.
    """
    found = read_trace(path, speed=speed).first(planned.iterations, planned.min_seconds)
    if planned.case.load is None or planned.case.load.trace != found.digest:
        raise TraceChangedError(f"{path} has changed since {planned.label} was planned: put the trace back, or start a new run.")
    return found


def read_trace(path: Path, limit: int | None = None, *, speed: float = 1.0) -> Trace:
    """A trace from a file of JSON lines.

    Args:
        limit: read so many requests at the most.
        speed: 2 makes the requests come twice as fast.

    Raises:
        UsageError: the file cannot be read, holds no request, or has a line that is not valid or goes back in time.
    """
    if speed <= 0:
        raise UsageError(f"trace speed: must be greater than 0, found {speed:g}.")
    entries: list[TraceEntry] = []
    for source, entry in islice(_entries(path), limit):
        if entries and entry.at_s < entries[-1].at_s:
            raise UsageError(f"{source}: comes before the line above it: sort the lines by time.")
        entries.append(entry)
    if not entries:
        raise UsageError(f"{path}: holds no request: give one JSON object per line.")
    start = entries[0].at_s
    # To the nanosecond, so that neither the unit nor the shift leaves a trace in the last digits.
    return Trace(tuple(one.model_copy(update={"at_s": round((one.at_s - start) / speed, 9)}) for one in entries))


def _entries(path: Path) -> Iterator[tuple[str, TraceEntry]]:
    """Every request with where it stands, for messages."""
    mooncake: bool | None = None
    for source, fields in _objects(path):
        if mooncake is None:
            mooncake = "timestamp" in fields
        yield source, _from_mooncake(fields, source) if mooncake else validate(fields, TraceEntry, source)


def _from_mooncake(fields: dict[str, object], source: str) -> TraceEntry:
    line = validate(fields, MooncakeLine, source)
    same = {
        "at_s": line.timestamp / 1000,
        "prompt_tokens": line.input_length,
        "output_tokens": line.output_length,
        "blocks": line.hash_ids,
    }
    return validate(same, TraceEntry, source)


def _objects(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield (source := f"{path} line {number}"), _object(line, source)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}.") from error


def _object(line: str, source: str) -> dict[str, object]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not valid JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{source}: expected an object with keys and values.")
    return fields
