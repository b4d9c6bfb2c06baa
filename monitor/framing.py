"""The bytes of a body → its events: server-sent events and lines of JSON. What an event says is left to `monitor.dialects`."""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from results.format import plain

Arrivals = Sequence[tuple[float, bytes]]
"""(time of the read, bytes of the body), in the order of reading."""

EXCERPT_CHARS = 200
_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(rb"[A-Za-z][\w-]*:")


class StreamError(Exception):
    """What is wrong with a stream, as `kind: what happened` of `results.records.ERROR_KINDS`."""


def excerpt(data: bytes | str) -> str:
    """The beginning of what a server sent, in one line that is safe to show."""
    start = data[: 4 * EXCERPT_CHARS]
    text = " ".join(plain(start if isinstance(start, str) else start.decode(errors="replace")).split())
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


def server_sent_events(arrivals: Arrivals) -> Iterator[tuple[float, bytes]]:
    """(time, data) of each event. Comments and fields of other names are skipped, as the format wants it.

    An event is complete with the empty line after it; the last one also when the body ends. An object on a line of its own
    counts as one: servers that fail put their error there.

    Raises:
        StreamError: a line that no field looks like, or one in which a server reports its failure.
    """
    data: list[bytes] = []
    time = 0.0
    for time, line in _lines(arrivals):
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif not line:
            if data:
                yield time, data[0] if len(data) == 1 else b"\n".join(data)
                data = []
        elif line.startswith(b"{"):
            yield time, line
        elif line[:6].lower() == b"error:":
            raise StreamError(f"server_error: {excerpt(line[6:])}")
        elif not line.startswith(b":") and not _FIELD.match(line):
            raise StreamError(f"bad_stream: a line that is no server-sent event: {excerpt(line)}")
    if data:
        yield time, b"\n".join(data)


def json_lines(arrivals: Arrivals) -> Iterator[tuple[float, bytes]]:
    """(time, line) of each line that is not blank."""
    for time, line in _lines(arrivals):
        if line.strip():
            yield time, line


def _lines(arrivals: Arrivals) -> Iterator[tuple[float, bytes]]:
    """(time, line) of each line, of the read that had its end. Ends are LF or CR LF, and that of the body.

    The body is joined first: a line then costs its length, in however many reads it came.
    """
    body = b"".join(data for _, data in arrivals)
    read_ends = list(accumulate(len(data) for _, data in arrivals))
    read = 0
    position = len(_BOM) if body.startswith(_BOM) else 0
    for line in body[position:].split(b"\n"):
        position += len(line) + 1
        if position > len(body) and not line:
            return
        while read_ends[read] < min(position, len(body)):
            read += 1
        yield arrivals[read][0], line[:-1] if line.endswith(b"\r") else line
