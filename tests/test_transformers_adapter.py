"""A LoRA adapter beside a model's weights: made with PEFT, loaded by the engine."""

import time
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case
from tiny_gemma import make_tiny_gemma, tiny_model

from bench.engines.protocol import Source, UnsupportedError
from bench.engines.transformers import Transformers
from bench.engines.transformers_model import load
from bench.engines.weights_bytes import weights_bytes
from bench.workloads import Prompt

pytestmark = pytest.mark.slow
IDS = (2, 263, 264, 265)


def make_adapter(folder: Path, *, rank: int = 4, **changes: int) -> Path:
    """An adapter that changes the answer."""
    import torch
    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(
        tiny_model(**changes), LoraConfig(r=rank, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=1.0)
    tuned.save_pretrained(folder)
    return folder


def loaded(weights: Path, adapter: Path | None) -> Any:
    case = make_case(threads=1, adapter=None if adapter is None else "sha256:0")
    return load(Source(weights=weights, adapter=adapter), case)[0]


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits


def test_the_adapter_counts_in_answers_and_in_bytes(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    weights, adapter = make_tiny_gemma(tmp_path / "tiny"), make_adapter(tmp_path / "adapter")
    plain, tuned = loaded(weights, None), loaded(weights, adapter)
    rows = {"q_proj": (32, 32), "down_proj": (64, 32)}
    added = 4 * sum(4 * (wide + high) for wide, high in rows.values()) * 2  # rank 4, two layers, fp32
    assert weights_bytes(tuned) - weights_bytes(plain) == added
    merged = PeftModel.from_pretrained(tiny_model(), adapter).merge_and_unload()
    assert torch.allclose(logits(tuned), logits(merged), atol=1e-3)
    assert not torch.allclose(logits(tuned), logits(plain), atol=0.1)


def test_a_session_generates_with_it(tmp_path: Path) -> None:
    weights, adapter = make_tiny_gemma(tmp_path / "tiny"), make_adapter(tmp_path / "adapter")
    case = make_case(threads=1, adapter="sha256:0")
    session = Transformers().load(Source(weights=weights, adapter=adapter), case)
    session.begin(case)
    generation = session.generate(Prompt(0, "", IDS), 8, "length", time.perf_counter)
    assert (generation.output_tokens, len(generation.event_times)) == (8, 8)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    weights, adapter = make_tiny_gemma(tmp_path / "tiny"), make_adapter(tmp_path / "adapter", intermediate_size=128)
    with pytest.raises(UnsupportedError, match="does not fit the model"):
        loaded(weights, adapter)
