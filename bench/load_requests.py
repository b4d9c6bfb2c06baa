"""What was asked under load, and what the clients told of it as records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bench.client_protocol import Sent
from bench.engines.protocol import Served, Session
from bench.engines.served import generation
from bench.engines.server_calls import ServerError
from bench.load_values import Told
from bench.measure import record
from bench.workloads import Prompt
from monitor.http import Exchange
from monitor.stream import Answer, Dialect, read_answer
from results.records import Case, PlannedCase


class LoadSession(Session, Served, Protocol):
    """A session that can be put under load."""


@dataclass(frozen=True)
class Asked:
    """A request, or a conversation with one prompt for each turn."""

    prompts: tuple[Prompt, ...]
    output_tokens: int

    def body(self, session: Served, case: Case, history: Sequence[str] = ()) -> bytes:
        """Of the turn that follows on this history of prompts and answers."""
        return session.body(self.prompts[len(history) // 2], self.output_tokens, case.stop, history)


def told_of(
    sent: Sequence[Sent], asked: Sequence[Asked], planned: PlannedCase, session: LoadSession, origin: float,
    date: Callable[[float], datetime],
) -> list[Told]:  # fmt: skip
    """Every request as a record, numbered in the order of their scheduled times.

    Args:
        sent: in that order.
        origin: the clock's value that the records' times count from.
        date: of a time of the clock.
    """
    found = []
    for index, one in enumerate(sent):
        answer = _counted(one, session, session.dialect(planned.case.prompt_format))
        raw = generation(Exchange(one.sent, one.connect_s), answer, one.sent)
        prompt = asked[one.number].prompts[one.turn - 1]
        values = raw.values | _values(one, planned)
        found.append(
            Told(
                request=record(raw, prompt, index, origin, date(one.sent), values, one.scheduled),
                end_s=one.ended - origin,
                turn=one.turn,
                attempts=one.attempts,
                connect_s=one.connect_s or 0.0,
                prompt_tokens=len(prompt.token_ids) or None,
                output_tokens=asked[one.number].output_tokens,
                uneven=answer.uneven,
            )
        )
    return found


def _counted(sent: Sent, session: Session, dialect: Dialect) -> Answer:
    """The answer; one whose server told no count is read again with a tokenizer, where there is one."""
    try:
        if sent.raw and session.recount(sent.answer.text) is not None:
            return read_answer(sent.raw, dialect, count=lambda text: session.recount(text) or 0)
    except ServerError:  # the server that could tell is gone
        pass
    return sent.answer


def _values(sent: Sent, planned: PlannedCase) -> dict[str, float]:
    values = {}
    if planned.retries and sent.attempts:
        values["attempts"] = float(sent.attempts)
    if planned.case.turns > 1:
        values["turn"] = float(sent.turn)
    return values
