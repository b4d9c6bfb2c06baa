"""What was asked under load, and what the clients told of it as records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bench.client_protocol import Sent
from bench.engines.protocol import Served, Session
from bench.engines.served import generation
from bench.engines.server_calls import ServerError
from bench.load_prompts import load_prompts_for, trace_prompts
from bench.load_values import Told
from bench.measure import record
from bench.trace import TraceEntry
from bench.workloads import Prompt, Prompts
from monitor.http import Exchange
from monitor.secrets import answer_without_secrets
from monitor.stream import Answer, Dialect, read_answer
from results.cases import Case, PlannedCase


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


def plain_prompts(session: Session, case: Case, mark: str, prompts: Prompts, count: int, first: int = 0) -> list[Prompt]:
    """Prompts of the case's length that have nothing in common, numbered from `first` on."""
    return load_prompts_for(
        prompts, count, mark=mark, tokens=case.prompt_tokens, form=case.prompt_format, encode=session.encode,
        decode=session.decode, first=first,
    )  # fmt: skip


def conversations(session: Session, case: Case, mark: str, prompts: Prompts, count: int, seed: int) -> list[Asked]:
    """So many conversations of the case's turns; some begin with the common prefix, where the case has one.

    Args:
        seed: of which ones these are.
    """
    first = load_prompts_for(
        prompts, count, mark=mark, tokens=case.prompt_tokens, form=case.prompt_format, encode=session.encode,
        decode=session.decode, shared_prefix_tokens=case.shared_prefix_tokens, prefix_hit_rate=case.prefix_hit_rate, seed=seed,
    )  # fmt: skip
    later = case.turns - 1
    rest = plain_prompts(session, case, mark, prompts, count * later, first=count) if later else []
    return [Asked((one, *rest[number * later : (number + 1) * later]), case.output_tokens) for number, one in enumerate(first)]


def replayed(session: Session, case: Case, mark: str, prompts: Prompts, entries: Sequence[TraceEntry]) -> list[Asked]:
    """What a trace asked, in its order."""
    made = trace_prompts(entries, prompts, mark=mark, encode=session.encode, decode=session.decode)
    return [Asked((prompt,), entry.output_tokens) for prompt, entry in zip(made, entries, strict=True)]


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
    case = planned.case
    exact = case.prompt_tokens is not None or (case.load is not None and case.load.arrivals == "trace")
    headers = session.endpoint(case.prompt_format).headers
    found = []
    for index, one in enumerate(sent):
        answer = answer_without_secrets(_counted(one, session, session.dialect(case.prompt_format)), headers)
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
                prompt_tokens=len(prompt.token_ids) if exact else None,
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
    if sent.last_sent is not None:
        values["last_attempt_s"] = sent.last_sent - sent.sent
    if planned.case.turns > 1:
        values["turn"] = float(sent.turn)
    return values
