"""How a fine-tuning becomes timed steps, inside the worker: each optimizer step is a request without content."""

import uuid
from collections.abc import Callable

from bench.engines.protocol import Session, Trainable, TrainingStep, UnsupportedError
from bench.measure import Instruments
from results.cases import PlannedCase
from results.record import digest
from results.records import Request


def measure_training(
    session: Session, planned: PlannedCase, process: int, seed: int, origin: float, tools: Instruments,
    phase: Callable[[str, int, int], None], tell: Callable[[Request], None],
) -> None:  # fmt: skip
    """Train, and tell each step as it ends. The phase is "prepare" until the first step, and "train" from there.

    Args:
        process: the round; each trains on data of its own.
        origin: the clock's value that the steps' times count from.

    Raises:
        UnsupportedError: the session cannot be trained.
    """
    training = planned.case.training
    if training is None or not isinstance(session, Trainable):
        raise UnsupportedError("the engine says that it can fine-tune, but its session cannot: report it to its author.")
    done = 0

    def ended(step: TrainingStep) -> None:
        nonlocal done
        tell(record(step, done, origin, tools))
        done += 1
        if done < training.steps:
            phase("train", done, training.steps)

    def begun() -> None:
        phase("train", 0, training.steps)

    phase("prepare", 0, training.steps)
    session.train(training, int(digest([seed, planned.case.case_id, process]), 16), tools.clock, begun, ended)


def record(step: TrainingStep, index: int, origin: float, tools: Instruments) -> Request:
    """A step as a record; its seconds stand in its values, as no content came."""
    seconds = step.ended - step.started
    return Request(
        request_id="q" + uuid.uuid4().hex[:15],
        index=index,
        prompt_index=0,
        sent_at=tools.now(),
        scheduled_s=step.started - origin,
        sent_s=step.started - origin,
        values={
            "step_s": seconds,
            "training_tps": step.tokens / seconds,
            "trained_tokens": float(step.tokens),
            "training_loss": step.loss,
            "rss_bytes": float(tools.rss_bytes()),
        },
    )
