"""Fine-tuning as timed steps: which phases are told when, and what a step's record holds."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes import make_case, make_planned

from bench.engines.protocol import Clock, Session, TrainingStep, UnsupportedError
from bench.finetune import measure_training
from bench.measure import Instruments
from bench.worker_events import MEASURED
from results.cases import Training
from results.records import Request

TRAINING = Training(batch=2, accumulation=1, sequence_tokens=32, steps=3, rank=4, alpha=8)
PLANNED = make_planned(make_case(purpose="finetune", training=TRAINING, prompt_tokens=None, output_tokens=0))
TOOLS = Instruments(clock=lambda: 0.0, now=lambda: datetime(2026, 3, 1, tzinfo=UTC), rss_bytes=lambda: 500)


class Trainer:
    """Prepares, trains steps of two seconds from second 10 on, and looks at the loss once more."""

    def __init__(self, told: list[Any]) -> None:
        self.told, self.seeds = told, list[int]()

    def train(
        self, training: Training, seed: int, clock: Clock, begun: Callable[[], None], tell: Callable[[TrainingStep], None]
    ) -> None:
        self.seeds.append(seed)
        self.told.append("preparing")
        begun()
        for number in range(training.steps):
            tell(TrainingStep(10.0 + 3 * number, 12.0 + 3 * number, 64, 2.5 - number))
        self.told.append("looking")


def trained(process: int = 0) -> tuple[Trainer, list[Any], list[Request]]:
    told: list[Any] = []
    steps: list[Request] = []
    session = Trainer(told)
    measure_training(
        cast(Session, session), PLANNED, process, 7, 4.0, TOOLS, lambda *phase: told.append(phase), steps.append
    )  # fmt: skip
    return session, told, steps


def test_what_is_counted_begins_with_the_first_step() -> None:
    _, told, _ = trained()
    assert told == [("prepare", 0, 3), "preparing", ("train", 0, 3), ("train", 1, 3), ("train", 2, 3), "looking"]
    assert "train" in MEASURED
    assert "prepare" not in MEASURED


def test_each_step_is_a_record_with_its_seconds_and_tokens() -> None:
    _, _, steps = trained()
    assert [(one.index, one.sent_s) for one in steps] == [(0, 6.0), (1, 9.0), (2, 12.0)]
    assert steps[1].values == {
        "step_s": 2.0, "training_tps": 32.0, "trained_tokens": 64.0, "training_loss": 1.5, "rss_bytes": 500.0,
    }  # fmt: skip


def test_each_round_trains_on_data_of_its_own() -> None:
    (first, *_), (again, *_), (other, *_) = trained(), trained(), trained(1)
    assert first.seeds == again.seeds != other.seeds


def test_a_session_that_cannot_train_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="its session cannot"):
        measure_training(
            cast(Session, SimpleNamespace()), PLANNED, 0, 7, 0.0, TOOLS, lambda *_: None, lambda _: None
        )  # fmt: skip
