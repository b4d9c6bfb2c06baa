"""When things happened in one request, as the clients of other tools would have seen it, and what is computed from that.

A `Formula` gives a figure or raises `UnknownError` with the reason as a sentence. Which tool uses which is left to
`results.definitions`.
"""

from collections.abc import Callable, Iterator, Sequence

from results.records import Request

Formula = Callable[[Request], float]
Times = Callable[[Request], Sequence[float]]
"""Moments in seconds, in order and at least one."""


class UnknownError(Exception):
    """Why a figure cannot be computed, as a sentence."""


def start(request: Request) -> float:
    """Before the connection was opened: other clients start their clock there, ours when the request is with the socket."""
    return request.sent_s - request.values.get("connect_s", 0.0)


def chunks(request: Request) -> Sequence[float]:
    """Every event, whatever it holds."""
    return _some(request.event_times_s, "No event was kept.")


def choices(request: Request) -> Sequence[float]:
    """Events with a choice: all but the last one where that is empty and the count came with it (the usage chunk)."""
    counted_by = request.token_source
    ends_with_usage = counted_by == "usage" and request.event_tokens[-1:] == (0,)
    return _some(chunks(request)[: -1 if ends_with_usage else None], "No event with a choice came.")


def tokens(request: Request) -> Sequence[float]:
    """Events with a token, visible or thought."""
    found = [time for time, carried in _events(request) if carried > 0]
    return _some(found, "No token came.")


def content(request: Request) -> Sequence[float]:
    """Events with a token from the first visible content on; those without text cannot be told from the others."""
    first = request.first_content_s
    return _some([] if first is None else [time for time in tokens(request) if time >= first], "No visible content came.")


def content_tokens(request: Request) -> Sequence[float]:
    """The time of each visible token; those of one event share one."""
    first = content(request)[0]
    found = [time for time, carried in _events(request) if time >= first for _ in range(carried)]
    return _some(found if len(found) > 1 else (), "It takes two tokens.")


def _events(request: Request) -> Iterator[tuple[float, int]]:
    return zip(request.event_times_s, request.event_tokens, strict=True)


def _some(times: Sequence[float], otherwise: str) -> Sequence[float]:
    if not times:
        raise UnknownError(otherwise)
    return times


# ---- formulas


def count(request: Request) -> float:
    if request.output_tokens is None:
        raise UnknownError("The output's tokens were not counted.")
    return request.output_tokens


def content_count(request: Request) -> float:
    """Tokens without those of thoughts."""
    first = content(request)[0]
    return max(0.0, count(request) - sum(carried for time, carried in _events(request) if time < first))


def less_one(counted: Formula) -> Formula:
    """Tokens after the first."""

    def later(request: Request) -> float:
        if counted(request) < 2:
            raise UnknownError("It takes two tokens.")
        return counted(request) - 1

    return later


def until_first(times: Times) -> Formula:
    """First - start."""
    return lambda request: times(request)[0] - start(request)


def until_last(times: Times) -> Formula:
    """Last - start."""
    return lambda request: times(request)[-1] - start(request)


def mean_gap(times: Times) -> Formula:
    def mean(request: Request) -> float:
        found = times(request)
        if len(found) < 2:
            raise UnknownError("It takes two events.")
        return (found[-1] - found[0]) / (len(found) - 1)

    return mean


def per_later_token(times: Times, counted: Formula = count) -> Formula:
    """(last - first) / (tokens - 1)."""
    return ratio(lambda request: times(request)[-1] - times(request)[0], less_one(counted))


def ratio(above: Formula, below: Formula) -> Formula:
    def quotient(request: Request) -> float:
        numerator, denominator = above(request), below(request)
        if denominator <= 0:
            raise UnknownError("No time passed.")
        return numerator / denominator

    return quotient


def server_says(*names: str) -> Formula:
    """The sum of what the server reported under these names."""

    def total(request: Request) -> float:
        if any(name not in request.values for name in names):
            raise UnknownError("The server gave no such times of its own.")
        return sum(request.values[name] for name in names)

    return total


def never(reason: str) -> Formula:
    def refuse(_: Request) -> float:
        raise UnknownError(reason)

    return refuse


def inverse(formula: Formula) -> Formula:
    return ratio(lambda _: 1.0, formula)
