"""The bytes of a streamed answer → timed token events. Sending and receiving is left to `monitor.http`.

An event's time is that of the read which completed it. An event without content (a role chunk, a usage chunk) is kept with no
tokens: it is not a token, but others count from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Dialect = Literal["openai-chat", "openai-completions", "ollama-chat", "ollama-generate"]
FinishReason = Literal["length", "stop", "cancelled"]

Arrivals = Sequence[tuple[float, bytes]]
"""(time of the read, bytes of the body), in the order of reading."""


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
    """Time of the first event with non-empty visible content; for a model that only thought, of nothing."""
    last_content: float | None = None
    first_reasoning: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    token_source: Literal["engine", "usage", "tokenizer"] | None = None
    finish_reason: FinishReason | None = None
    uneven: bool = False
    """Whether events carried several tokens and the server did not say how many each: shares by the length of the text."""
    error: str | None = None
    """`kind: what happened`, as `results.records.ERROR_KINDS`; what came before it is still there."""
    values: dict[str, float] = field(default_factory=dict)
    """Server-side figures by metric name."""


def read_answer(
    arrivals: Arrivals, dialect: Dialect, *, error: str | None = None, count: Callable[[str], int] | None = None
) -> Answer:
    """Parse a body.

    Args:
        error: of the transport, when the body did not end as it should; an error in the stream comes first.
        count: tokens of a text without special tokens, where a tokenizer is at hand.
    """
    raise NotImplementedError
