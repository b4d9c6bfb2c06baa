"""The transformers engine on a tiny real Gemma 3: counts, order and times of tokens, and the same tokens as a bare `generate`."""

import time
from pathlib import Path

import pytest
from fakes import make_case
from lazily import Lazily

from bench.engines.protocol import Source, UnsupportedError
from bench.engines.transformers import Transformers
from bench.engines.transformers_session import TransformersSession
from bench.engines.weights_bytes import weights_bytes
from bench.workloads import Prompt, load_prompts, speed_prompt

torch = Lazily("torch")
pytestmark = pytest.mark.slow
CASE = make_case(prompt_tokens=16, output_tokens=6, threads=1, source_precision=None)


@pytest.fixture(scope="module")
def session(tiny_gemma: Path) -> TransformersSession:
    return Transformers().load(Source(tiny_gemma), CASE)


def ask(session: TransformersSession, text: str) -> Prompt:
    return Prompt(0, text, tuple(session.encode(text, "plain")))


def test_one_event_per_token_in_order(session: TransformersSession) -> None:
    before = time.perf_counter()
    generation = session.generate(ask(session, "Hello there"), 6, "length", time.perf_counter)
    after = time.perf_counter()
    assert generation.output_tokens == len(generation.event_times) == 6
    assert generation.event_tokens == (1,) * 6
    assert before <= generation.sent < generation.event_times[0]
    assert list(generation.event_times) == sorted(generation.event_times)
    assert generation.event_times[-1] <= after
    assert generation.prompt_tokens == len(ask(session, "Hello there").token_ids)
    assert generation.finish_reason == "length"


def test_the_hook_changes_no_token(session: TransformersSession, tiny_gemma: Path) -> None:
    from transformers import AutoModelForCausalLM

    prompt = ask(session, "What is machine learning?")
    bare = AutoModelForCausalLM.from_pretrained(tiny_gemma, dtype=torch.float32)
    ids = torch.tensor([prompt.token_ids])
    expected = bare.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, min_new_tokens=12, do_sample=False)
    found = session.generate(prompt, 12, "length", time.perf_counter)
    assert found.text == session.decode(expected[0, ids.shape[1] :].tolist())


def test_fixed_length_ignores_the_end_of_sequence_and_quality_stops_at_it(tiny_gemma_eos: Path) -> None:
    session = Transformers().load(Source(tiny_gemma_eos), CASE)
    fixed = session.generate(ask(session, "Hello"), 5, "length", time.perf_counter)
    assert (fixed.output_tokens, len(fixed.event_times), fixed.finish_reason) == (5, 5, "length")
    stopped = session.generate(ask(session, "Hello"), 5, "eos", time.perf_counter)
    assert (stopped.output_tokens, len(stopped.event_times), stopped.finish_reason) == (1, 1, "stop")
    assert stopped.text == ""


@pytest.mark.parametrize("length", [2, 7, 16, 64, 200])
def test_prompts_have_exactly_the_wanted_length(session: TransformersSession, length: int) -> None:
    prompts = load_prompts("five-questions")
    made = [speed_prompt(prompts, serial, "1.7", length, "plain", session.encode, session.decode) for serial in range(3)]
    assert {len(prompt.token_ids) for prompt in made} == {length}
    if length > 2:
        assert len({prompt.token_ids[:3] for prompt in made}) == 3


def test_chat_prompts_have_exactly_the_wanted_length(tiny_gemma_chat: Path) -> None:
    session = Transformers().load(Source(tiny_gemma_chat), CASE)
    prompts = load_prompts("five-questions")
    prompt = speed_prompt(prompts, 0, "1.7", 64, "chat", session.encode, session.decode)
    assert len(prompt.token_ids) == 64


def test_chat_without_a_template_is_refused(session: TransformersSession) -> None:
    with pytest.raises(UnsupportedError, match="prompt_format to plain"):
        session.encode("Hello", "chat")


def test_empty_and_foreign_prompts(session: TransformersSession) -> None:
    for text in ("", "日本語 🙂 \u202e ñ"):
        prompt = ask(session, text)
        assert session.generate(prompt, 3, "length", time.perf_counter).output_tokens == 3
        assert session.decode(prompt.token_ids) == text
        assert session.recount(text) == len(prompt.token_ids) - 1


def test_dtypes_and_their_bytes(tiny_gemma: Path) -> None:
    full = Transformers().load(Source(tiny_gemma), CASE).values()["weights_bytes"]
    half = Transformers().load(Source(tiny_gemma), make_case(dtype="bf16", quantization="bf16")).values()["weights_bytes"]
    assert 0.45 < half / full < 0.55


def test_tied_weights_count_once() -> None:
    model = torch.nn.ModuleList([torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(10, 10, bias=False)])
    assert weights_bytes(model) == 800
    model[1].weight = model[0].weight
    assert weights_bytes(model) == 400


def test_what_it_cannot_do_is_refused_with_a_reason() -> None:
    engine = Transformers()
    assert engine.refuse(CASE) is None
    assert "no other dtype" in (engine.refuse(make_case(quantization="bf16")) or "")
    if not torch.cuda.is_available():
        assert "CUDA" in (engine.refuse(make_case(device="cuda")) or "")


def test_cuda_events_give_one_time_per_token(tiny_gemma: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    session = Transformers().load(Source(tiny_gemma), make_case(device="cuda", threads=None))
    session.generate(ask(session, "warm"), 4, "length", time.perf_counter)
    start = time.perf_counter()
    generation = session.generate(ask(session, "Hello"), 20, "length", time.perf_counter)
    assert session.timing == "cuda_events"
    assert len(generation.event_times) == 20
    assert list(generation.event_times) == sorted(generation.event_times)
    assert start < generation.event_times[-1] <= time.perf_counter() + 1e-3
    assert generation.values["request_peak_device_bytes"] > session.values()["weights_bytes"]
