"""Fine-tuning: real LoRA by PEFT and TRL on a tiny model."""

from pathlib import Path

import pytest
from fakes import make_case
from tiny_gemma import make_tiny_gemma, tiny_model

from bench.engines.protocol import Source, TrainingStep, UnsupportedError
from bench.engines.transformers import Transformers
from bench.engines.transformers_training import TARGETS, loss_of, on_one_device, sequences, train
from results.cases import Training

pytestmark = pytest.mark.slow
SMALL = Training(batch=2, accumulation=1, sequence_tokens=32, steps=20, rank=4, alpha=8, learning_rate=1e-3)


def letters(text: str) -> list[int]:
    return [2, *(263 + ord(one) % 50 for one in text)]


def ticks() -> object:
    now = iter(range(10**6))
    return lambda: float(next(now))


def nothing(*_: object) -> None: ...


def test_twenty_steps_lower_the_loss_on_a_batch_that_is_never_trained_on() -> None:
    steps: list[TrainingStep] = []
    values = train(tiny_model(), letters, SMALL, 7, ticks(), nothing, nothing, steps.append)  # type: ignore[arg-type]
    assert len(steps) == SMALL.steps
    assert [(one.started, one.ended) for one in steps] == [(2.0 * n, 2.0 * n + 1) for n in range(20)]
    assert {one.tokens for one in steps} == {64}
    assert values["fixed_loss_after"] < values["fixed_loss_before"]
    assert all(0 < one.loss < 10 for one in steps)


def test_only_the_adapters_are_trained() -> None:
    model = tiny_model()
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    values = train(model, letters, SMALL, 7, ticks(), nothing, nothing, nothing)  # type: ignore[arg-type]
    after = model.model.layers[0].mlp.up_proj.base_layer.weight
    assert bool((before == after).all())
    shapes = [
        (one.in_features, one.out_features)
        for name, one in tiny_model().named_modules()
        if name.rpartition(".")[2] in TARGETS
    ]  # fmt: skip
    assert values["trainable_parameters"] == sum(4 * (wide + high) for wide, high in shapes)


def test_accumulation_makes_one_step_of_several_batches() -> None:
    steps: list[TrainingStep] = []
    several = SMALL.model_copy(update={"accumulation": 3, "steps": 2})
    train(tiny_model(), letters, several, 7, ticks(), nothing, nothing, steps.append)  # type: ignore[arg-type]
    assert [one.tokens for one in steps] == [2 * 3 * 32] * 2


def test_it_tells_when_it_begins_and_waits_for_the_device_at_both_ends_of_each_step() -> None:
    told: list[str] = []
    now = ticks()

    def clock() -> float:
        told.append("time")
        return now()  # type: ignore[operator,no-any-return]

    train(
        tiny_model(), letters, SMALL.model_copy(update={"steps": 2}), 7, clock, lambda: told.append("wait"),
        lambda: told.append("begun"), lambda _: told.append("step"),
    )  # fmt: skip
    assert told == ["begun", *["wait", "time", "wait", "time", "step"] * 2]


@pytest.mark.parametrize(("found", "used"), [(0, 0), (1, 1), (2, 1)])
def test_several_gpus_train_as_one(found: int, used: int, tmp_path: Path) -> None:
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=4, use_cpu=True)
    arguments._n_gpu = found
    assert on_one_device(arguments).n_gpu == used
    assert arguments.train_batch_size == 4


def test_the_weights_are_those_that_were_loaded(tiny_gemma: Path) -> None:
    case = make_case(purpose="finetune", training=SMALL, prompt_tokens=None, output_tokens=0, source_precision=None)
    session = Transformers().load(Source(tiny_gemma), case)
    session.begin(case)
    loaded = session.values()["weights_bytes"]
    session.train(SMALL.model_copy(update={"steps": 1}), 7, ticks(), nothing, nothing)  # type: ignore[arg-type]
    values = session.values()
    assert values["trainable_parameters"] > 0
    assert values["weights_bytes"] == loaded


def test_sequences_have_their_length_and_differ() -> None:
    made = sequences(letters, 40, 6, 3)
    assert [len(one) for one in made] == [40] * 6
    assert len(set(map(tuple, made))) == 6
    assert made == sequences(letters, 40, 6, 3) != sequences(letters, 40, 6, 4)


def test_loss_is_that_of_the_model(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_tiny_gemma(tmp_path / "tiny"), dtype=torch.float32)
    ids = torch.tensor([letters("hello there")])
    logits = model(ids).logits[0, :-1].log_softmax(-1)
    expected = -logits.gather(1, ids[0, 1:, None]).mean().item()
    assert loss_of(model, ids.tolist()) == pytest.approx(expected, rel=1e-5)


def test_a_model_without_such_layers_is_refused() -> None:
    import torch

    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = torch.nn.Linear(2, 2)
            self.config = {"model_type": "other"}

    with pytest.raises(UnsupportedError, match="finds none of its layers"):
        train(Other(), letters, SMALL, 0, ticks(), nothing, nothing, nothing)  # type: ignore[arg-type]
