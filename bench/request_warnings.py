"""What a row's requests themselves tell that may have spoiled it, asked one at a time or under load."""

from collections import Counter
from collections.abc import Iterable, Sequence

from results.cases import Case
from results.records import Request, RowWarning

CACHED_SHARE = 0.05
"""Of the prompts' tokens: the first token of all sequences and a template's beginning are always the same."""


def request_errors(requests: Sequence[Request]) -> RowWarning | None:
    kinds = Counter(one.error.partition(":")[0] for one in requests if one.error)
    if not kinds:
        return None
    words = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    return RowWarning(kind="request_errors", facts={"failed": kinds.total(), "requests": len(requests), "kinds": words})


def cache_hits(case: Case, done: Iterable[Request]) -> RowWarning | None:
    """Whether a server knew the prompts already, where the case is not about that."""
    cached = asked = 0.0
    for one in done:
        cached += one.values.get("cached_prompt_tokens", 0.0)
        asked += one.prompt_tokens or 0
    share = cached / asked if asked else 0.0
    return RowWarning(kind="cache_hits", facts={"share": share}) if share > CACHED_SHARE and not case.prompt_cache else None


def prompt_count(asked: Iterable[tuple[int | None, Request]]) -> RowWarning | None:
    """Whether prompts have other lengths than were asked for; `None` where a prompt is as long as it is."""
    wrong = [
        (wanted, one.prompt_tokens) for wanted, one in asked if None not in (wanted, one.prompt_tokens) and wanted != one.prompt_tokens
    ]  # fmt: skip
    if not wrong:
        return None
    return RowWarning(kind="prompt_count", facts={"wanted": wrong[0][0], "server": wrong[0][1], "requests": len(wrong)})


def early_stop(case: Case, asked: Sequence[tuple[int, Request]]) -> RowWarning | None:
    """Whether answers are shorter than the fixed lengths that were asked for."""
    if case.stop != "length":
        return None
    short = sum(one.output_tokens is not None and one.output_tokens < wanted for wanted, one in asked)
    facts = {"stopped": short, "requests": len(asked), "wanted": case.output_tokens}
    return RowWarning(kind="early_stop", facts=facts) if short else None


def uneven_events(requests: int) -> RowWarning | None:
    return RowWarning(kind="uneven_events", facts={"requests": requests}) if requests else None
