"""Fine-tuning on transformers: LoRA by PEFT under TRL's trainer, on generated sequences, with a clock around each optimizer step.

What a step costs does not depend on what the text says, so the data is made here: short sentences from a seeded generator, which a
model learns within a few steps, packed into sequences of exactly the length asked for.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from bench.engines.protocol import Clock, TrainingStep, UnsupportedError
from bench.preparing import MissingDependencyError
from results.cases import Training

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WHO = ("the cook", "a sailor", "my teacher", "the old cat", "her brother", "a doctor")
DOES = ("paints", "finds", "repairs", "carries", "forgets", "sells")
WHAT = ("a red door", "the heavy box", "an old map", "two green apples", "the broken clock", "a long letter")
Encode = Callable[[str], Sequence[int]]


def train(
    model: Any, encode: Encode, training: Training, seed: int, clock: Clock, wait: Callable[[], None], begun: Callable[[], None],
    tell: Callable[[TrainingStep], None],
) -> dict[str, float]:  # fmt: skip
    """Fine-tune the model in place.

    Args:
        encode: text → token ids with the special tokens of a beginning.
        wait: returns when nothing runs on the model's device any more.
        begun: called once, right before the first step.
        tell: called after each optimizer step, outside the time of any.

    Returns:
        `fixed_loss_before`, `fixed_loss_after`, nats per token, and `trainable_parameters`.

    Raises:
        MissingDependencyError: PEFT, TRL or datasets is missing.
        UnsupportedError: the model has none of the layers that LoRA is put on.
    """
    try:
        from datasets import Dataset
        from peft import LoraConfig, get_peft_model
        from trl import SFTTrainer
    except ImportError as error:
        raise MissingDependencyError(f'fine-tuning needs PEFT and TRL ({error}): pip install "gemmeter[finetune]"') from error
    adapters = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=training.dropout,
        target_modules=list(TARGETS),
        task_type="CAUSAL_LM",
    )
    try:
        tuned = get_peft_model(model, adapters)
    except ValueError as error:
        raise UnsupportedError(f"LoRA finds none of its layers in this model ({error}): fine-tune another one.") from error
    length, count = training.sequence_tokens, training.batch * training.accumulation * training.steps
    made = sequences(encode, length, training.batch + count, seed)
    fixed, learned = made[: training.batch], made[training.batch :]
    before = loss_of(tuned, fixed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=tuned,
            args=on_one_device(_arguments(model, training, seed % 2**31, folder)),
            train_dataset=Dataset.from_list([{"input_ids": one} for one in learned]),
            processing_class=_padding(),
            callbacks=[_told(clock, wait, length * training.batch * training.accumulation, begun, tell)],
        )
        trainer.train()
    tuned.eval()
    parameters = sum(one.numel() for one in tuned.parameters() if one.requires_grad)
    return {
        "fixed_loss_before": before,
        "fixed_loss_after": loss_of(tuned, fixed),
        "trainable_parameters": float(parameters),
    }


def sequences(encode: Encode, length: int, count: int, seed: int) -> list[list[int]]:
    """So many sequences of exactly this length, all different, packed from generated sentences."""
    draw = random.Random(seed)  # noqa: S311 sentences, no secrets
    made = []
    for _ in range(count):
        ids: list[int] = []
        while len(ids) < length:
            ids += encode(f"{draw.choice(WHO)} {draw.choice(DOES)} {draw.choice(WHAT)}.")
        made.append(ids[:length])
    return made


def loss_of(model: Any, batch: Sequence[Sequence[int]]) -> float:
    """Mean cross-entropy per token, in nats, without dropout."""
    import torch

    model.eval()
    with torch.inference_mode():
        ids = torch.tensor(batch, device=model.device)
        return float(model(input_ids=ids, labels=ids).loss)


def _arguments(model: Any, training: Training, seed: int, folder: str) -> Any:
    """The tutorial's settings; what it does not say is TRL's default, written down so that no release changes it."""
    import torch
    from trl import SFTConfig

    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=training.batch,
        gradient_accumulation_steps=training.accumulation,
        max_steps=training.steps,
        max_length=training.sequence_tokens,
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        activation_checkpointing=training.checkpointing,
        bf16=model.dtype == torch.bfloat16,
        fp16=False,
        use_cpu=model.device.type == "cpu",
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def on_one_device(arguments: Any) -> Any:
    """The arguments, for the device that the model is on: the trainer would copy it to every GPU and train a batch on each."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _padding() -> Any:
    """A tokenizer that TRL takes its padding from; the data is tokenized already, and needs none."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>")


def _told(
    clock: Clock, wait: Callable[[], None], tokens: int, begun: Callable[[], None], tell: Callable[[TrainingStep], None]
) -> Any:
    """A callback of the trainer that takes the time at both ends of each optimizer step, and tells the step with its loss."""
    from transformers import TrainerCallback

    def now() -> float:
        wait()
        return clock()

    class Told(TrainerCallback):  # type: ignore[misc]
        started = ended = 0.0
        is_first = True

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if self.is_first:
                self.is_first = False
                begun()
            self.started = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = now()

        def on_log(self, _: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                tell(TrainingStep(self.started, self.ended, tokens, float(logs["loss"])))

    return Told()
