"""The bytes of a streamed answer → timed token events. Sending and receiving is left to `monitor.http`.

An event's time is that of the read which completed it. An event without content (a role chunk, a usage chunk) is kept with no
tokens: it is not a token, but others count from it. With a token that has no text, such as those after an ignored end of
sequence, it is one where the server counts as it goes. What a model thinks before it answers counts as output tokens, and as
content of nobody's: the first content is what a user sees.

Log-probabilities are those of tokens, so they tell how many each event had. They are believed where there is one for each token
that somebody else has counted: llama.cpp tells only that of the last token of a character that takes several.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from monitor.dialects import GRAMMARS, Dialect, Grammar, Report
from monitor.event_tokens import event_tokens
from monitor.framing import Arrivals, StreamError, excerpt, json_lines

__all__ = ["Answer", "Arrivals", "Dialect", "FinishReason", "read_answer"]

FinishReason = Literal["length", "stop", "cancelled"]

_LENGTH = {"length", "max_tokens"}
_ABORTED = {"abort", "error"}


@dataclass(frozen=True)
class Answer:
    """A whole response as timed token events."""

    event_times: tuple[float, ...] = ()
    event_tokens: tuple[int, ...] = ()
    """Tokens in each event; as long as `event_times`."""
    text: str = ""
    """Visible content."""
    reasoning: str = ""
    first_content: float | None = None
    """Time of the first event with visible text, or of the first token where none has any; `None` for a model that only thought."""
    last_content: float | None = None
    """Time of the last token from there on, visible or not."""
    first_reasoning: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    """Thinking and an end-of-sequence token included, where the server counts them."""
    token_source: Literal["engine", "usage", "tokenizer"] | None = None
    finish_reason: FinishReason | None = None
    uneven: bool = False
    """Whether events carried several tokens and the server did not say how many each: shares by the length of the text."""
    error: str | None = None
    """`kind: what happened`, as `results.records.ERROR_KINDS`; what came before it is still there."""
    values: dict[str, float] = field(default_factory=dict)
    """Server-side figures by metric name."""


@dataclass
class _Events:
    """What a body says, event by event."""

    times: list[float] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    reasonings: list[str] = field(default_factory=list)
    counted: list[int | None] = field(default_factory=list)
    finish: str | None = None
    done: bool = False
    """Whether the protocol's own end was there."""
    report: Report = field(default_factory=dict)
    told: dict[int, Sequence[float | None]] = field(default_factory=dict)
    """The log-probabilities that came with an event, by its place."""
    error: str | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        if self.finish is None or self.finish in _ABORTED:
            return None
        return "length" if self.finish in _LENGTH else "stop"

    @property
    def log_probabilities(self) -> list[float | None]:
        return [one for told in self.told.values() for one in told]

    def tells_every_token(self, total: int | None) -> bool:
        """Whether there is a log-probability for each of so many tokens; few servers tell that of the end of sequence."""
        told = len(self.log_probabilities)
        return told > 0 and (told == total or (told + 1 == total and self.finish_reason == "stop"))

    def told_up_to(self) -> list[int]:
        """How many log-probabilities there were up to the end of each event."""
        return list(accumulate(len(self.told.get(place, ())) for place in range(len(self.times))))


def read_answer(
    arrivals: Arrivals, dialect: Dialect, *, error: str | None = None, count: Callable[[str], int] | None = None
) -> Answer:
    """Parse a body.

    Args:
        error: of the transport, when the body did not end as it should; an error in the stream comes first, but a last event
            that is torn is none. After the protocol's own end nothing is missing any more.
        count: tokens of a text without special tokens, where a tokenizer is at hand.
    """
    if error and error.startswith("http_"):
        return Answer(error=error)
    events = _read(arrivals, dialect)
    if error and (events.error or "").startswith("bad_stream"):
        events = _read(_before_tear(arrivals, dialect), dialect)
    pieces = [thought + said for thought, said in zip(events.reasonings, events.contents, strict=True)]
    prompt_tokens, total, values, hidden = GRAMMARS[dialect].totals(events.report)
    source: Literal["usage", "tokenizer"] | None = "usage" if total else None
    if total is None and count:
        total, source = count("".join(pieces)) or None, "tokenizer"
    counted: Sequence[int | None] = events.counted
    if events.tells_every_token(total):
        counted = events.told_up_to()
        values |= _mean_log_probability(events.log_probabilities)
    hidden = 0 if any(events.reasonings) else hidden
    tokens, uneven = event_tokens(pieces, counted, total, events.finish_reason == "stop", count, hidden)
    content = _content_times(events, tokens)
    return Answer(
        event_times=tuple(events.times),
        event_tokens=tokens,
        text="".join(events.contents),
        reasoning="".join(events.reasonings),
        first_content=content[0] if content else None,
        last_content=content[-1] if content else None,
        first_reasoning=next((time for time, thought in zip(events.times, events.reasonings, strict=True) if thought), None),
        prompt_tokens=prompt_tokens,
        output_tokens=total,
        token_source=source if total else None,
        finish_reason=events.finish_reason,
        uneven=uneven,
        error=events.error or _incomplete(events, any(tokens), arrivals, error),
        values=values,
    )


def _read(arrivals: Arrivals, dialect: Dialect) -> _Events:
    grammar = GRAMMARS[dialect]
    found = _Events()
    try:
        for time, data in grammar.frames(arrivals):
            if data.startswith(b"[DONE]"):
                found.done = True
                break
            content, reasoning, finish, counted, found.done, told = grammar.event(_object(data), found.report)
            found.times.append(time)
            found.contents.append(content)
            found.reasonings.append(reasoning)
            found.counted.append(counted)
            if told:
                found.told[len(found.times) - 1] = told
            if finish:
                found.finish = finish
            if found.done:
                break
    except StreamError as wrong:
        found.error = (None if found.times else _wrong_as_one(arrivals, grammar)) or str(wrong)
    return found


def _wrong_as_one(arrivals: Arrivals, grammar: Grammar) -> str | None:
    """What is wrong with a body that is one JSON object, on however many lines; `None`: it is no such."""
    try:
        whole = _object(b"".join(data for _, data in arrivals))
    except StreamError:
        return None
    try:
        grammar.event(whole, {})
    except StreamError as wrong:
        return str(wrong)
    return None


def _content_times(events: _Events, tokens: Sequence[int]) -> list[float]:
    """Times of the events from the first visible text on that have text or a token but no thought; from the first token where
    no text came at all, nor a thought."""
    said = [bool(text) for text in events.contents]
    start = said.index(True) if any(said) else len(said) if any(events.reasonings) else 0
    rows = zip(events.times, said, tokens, events.reasonings, strict=True)
    return [time for time, seen, carried, thought in list(rows)[start:] if seen or (carried and not thought)]


def _before_tear(arrivals: Arrivals, dialect: Dialect) -> Arrivals:
    """What came before the last event, when the body ends within that one; else all."""
    body = b"".join(data for _, data in arrivals)
    lines = GRAMMARS[dialect].frames is json_lines
    end = max((found.end() for found in re.finditer(rb"\n" if lines else rb"\n\r?\n", body)), default=0)
    torn = body[end:].lstrip(b"\r\n").replace(b"data: ", b"data:", 1)
    if not (torn[:1] == b"{" if lines else b"data:{".startswith(torn[:6]) or b"data:[DONE]".startswith(torn)):
        return arrivals
    ends = accumulate(len(data) for _, data in arrivals)
    return [(time, data[: max(0, len(data) - (at - end))]) for (time, data), at in zip(arrivals, ends, strict=True)]


def _mean_log_probability(told: Sequence[float | None]) -> dict[str, float]:
    known = [one for one in told if one is not None]
    return {"mean_log_probability": sum(known) / len(known)} if len(known) == len(told) else {}


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        value = None
    if type(value) is not dict:
        raise StreamError(f"bad_stream: an event that is no JSON object: {excerpt(data)}")
    return value


def _incomplete(events: _Events, has_tokens: bool, arrivals: Arrivals, error: str | None) -> str | None:
    """What an answer without an error in it lacks. Tokens without text are an answer only where the length ended it."""
    if error and not events.done:
        return error
    if events.finish in _ABORTED:
        return f"server_error: the server gave up with the finish reason {events.finish!r}"
    if not events.done and events.finish is None and events.times:
        return "disconnected: the stream ended without a finish reason"
    if not any(events.contents) and not any(events.reasonings) and not (has_tokens and events.finish_reason == "length"):
        return f"empty: no content in {sum(len(data) for _, data in arrivals)} bytes"
    return None
