"""The switches of transformers on tiny real models: what must not change an answer does not, and what each tells is exact."""

import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from fakes import make_case
from lazily import Lazily
from tiny_gemma import BYTES, SPECIAL, VOCABULARY, tiny_model

from bench.engines import transformers_attention, transformers_caches, transformers_compile
from bench.engines.protocol import Batched, Source, UnsupportedError
from bench.engines.transformers import Transformers
from bench.engines.transformers_devices import DEVICES
from bench.engines.transformers_session import TransformersSession
from bench.engines.transformers_steps import own_events
from bench.workloads import Prompt
from results.cases import Case, Sampling

torch = Lazily("torch")
transformers = Lazily("transformers")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
CXX = shutil.which("g++") or shutil.which("clang++")
TEXTS = ("What is machine learning?", "Hi", "Explain quantum computing in simple words, please")
PLAIN: dict[str, Any] = {"prompt_tokens": None, "output_tokens": 12, "threads": 1, "source_precision": None}


def make_talker(folder: Path, tokens: Path, noise: float = 0.0, **changes: Any) -> Path:
    """A tiny model that says letters, other ones after every other prompt: it has a head of its own, which knows letters alone."""
    shutil.copytree(tokens, folder)
    model = tiny_model(tie_word_embeddings=False, **changes)
    with torch.no_grad():
        model.lm_head.weight += noise * torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(1))
        model.lm_head.weight[: len(SPECIAL) + len(BYTES) + 1] = 0.0  # nor a space, which decoding may drop
        model.lm_head.weight[len(VOCABULARY) :] = 0.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory, tiny_gemma: Path) -> Path:
    return make_talker(tmp_path_factory.mktemp("talker") / "tiny", tiny_gemma)


def case_of(**changes: Any) -> Case:
    return make_case(**PLAIN | changes)


@pytest.fixture(scope="module")
def engine() -> Transformers:
    return Transformers()


@pytest.fixture(scope="module")
def plain(engine: Transformers, talker: Path) -> TransformersSession:
    return engine.load(Source(talker), case_of())


def loaded(engine: Transformers, folder: Path, case: Case, **source: Any) -> TransformersSession:
    assert engine.refuse(case) is None
    session = engine.load(Source(folder, **source), case)
    session.begin(case)
    return session


def ask(session: TransformersSession, text: str) -> Prompt:
    return Prompt(0, text, tuple(session.encode(text, "plain")))


def answer(session: TransformersSession, text: str, tokens: int = 12) -> str:
    generation = session.generate(ask(session, text), tokens, "length", time.perf_counter)
    assert sum(generation.event_tokens) == generation.output_tokens == tokens
    return generation.text


def refused(engine: Transformers, **changes: Any) -> str:
    return engine.refuse(case_of(**changes)) or ""


# batch


def test_a_batch_gives_each_prompt_what_it_gets_alone(engine: Transformers, plain: TransformersSession, talker: Path) -> None:
    session = loaded(engine, talker, case_of(batch=3))
    assert isinstance(session, Batched)
    together = session.generate_batch([ask(session, text) for text in TEXTS], 12, "length", time.perf_counter)
    assert [one.text for one in together] == [answer(plain, text) for text in TEXTS]
    assert [one.prompt_tokens for one in together] == [len(ask(plain, text).token_ids) for text in TEXTS]
    assert {one.sent for one in together} == {together[0].sent}
    assert {one.event_times for one in together} == {together[0].event_times}
    assert {one.event_tokens for one in together} == {(1,) * 12}


def test_a_sequence_that_ends_early_counts_its_own_tokens(engine: Transformers, plain: TransformersSession, talker: Path) -> None:
    whole = [plain.generate(ask(plain, text), 12, "length", time.perf_counter).text for text in TEXTS]
    ids = [[VOCABULARY.index(letter) for letter in text] for text in whole]
    end = ids[1][4]
    expected = [row.index(end) + 1 if end in row else 12 for row in ids]
    assert len(set(expected)) > 1, "the tiny model says too little to tell the sequences apart"
    session = loaded(engine, talker, case_of(batch=3))
    session._eos = session._requests._eos = (end,)
    together = session.generate_batch([ask(session, text) for text in TEXTS], 12, "eos", time.perf_counter)
    assert [one.output_tokens for one in together] == expected
    assert [len(one.event_times) for one in together] == expected
    assert [one.finish_reason for one in together] == ["stop" if end in row else "length" for row in ids]
    assert together[1].text == session.decode(ids[1][: expected[1]])


# depth


@pytest.mark.parametrize("depth", [3, 9, 40, 700])
@pytest.mark.parametrize("kv_cache", [None, "static"])
def test_a_filled_cache_answers_as_one_long_prompt(
    engine: Transformers, plain: TransformersSession, talker: Path, depth: int, kv_cache: str | None
) -> None:
    session = loaded(engine, talker, case_of(depth=depth, kv_cache=kv_cache))
    deep = session.generate(ask(session, TEXTS[0]), 12, "length", time.perf_counter)
    before = session._requests._before
    assert (len(before), before[0]) == (depth, 2)
    whole = Prompt(0, "", (*before, *ask(plain, TEXTS[0]).token_ids))
    assert deep.text == plain.generate(whole, 12, "length", time.perf_counter).text != answer(plain, TEXTS[0])
    assert deep.prompt_tokens == len(ask(plain, TEXTS[0]).token_ids)


def test_only_the_prompt_is_computed_in_the_timed_part(engine: Transformers, talker: Path) -> None:
    session = loaded(engine, talker, case_of(depth=600))
    seen: list[tuple[int, bool]] = []
    started = False

    def clock() -> float:
        nonlocal started
        started = True
        return time.perf_counter()

    session._model.model.register_forward_pre_hook(
        lambda module, arguments, named: seen.append((named["input_ids"].shape[1], started)), with_kwargs=True
    )
    session.generate(ask(session, TEXTS[0]), 3, "length", clock)
    assert seen == [(512, False), (88, False), (len(ask(session, TEXTS[0]).token_ids), True), (1, True), (1, True)]


def test_a_batch_over_a_filled_cache(engine: Transformers, plain: TransformersSession, talker: Path) -> None:
    session = loaded(engine, talker, case_of(batch=3, depth=30))
    together = session.generate_batch([ask(session, text) for text in TEXTS], 12, "length", time.perf_counter)
    plain.begin(case_of(depth=30))
    alone = [answer(plain, text) for text in TEXTS]
    plain.begin(case_of())
    assert [one.text for one in together] == alone


# sampling


def test_sampled_requests_differ_and_a_case_repeats(engine: Transformers, plain: TransformersSession, talker: Path) -> None:
    case = case_of(sampling=Sampling(temperature=1.5, top_p=1.0))
    session = loaded(engine, talker, case)
    first = [answer(session, TEXTS[0]) for _ in range(4)]
    session.begin(case)
    torch.rand(3)
    assert [answer(session, TEXTS[0]) for _ in range(4)] == first
    assert len(set(first)) == 4
    session.begin(case_of(sampling=Sampling(temperature=1.5, top_p=1.0, seed=1)))
    assert not {answer(session, TEXTS[0]) for _ in range(4)} & set(first)
    session.begin(case_of(sampling=Sampling(temperature=1.5, top_k=1, repetition_penalty=1.0)))
    assert answer(session, TEXTS[0]) == answer(plain, TEXTS[0])
    session.begin(case_of())
    assert answer(session, TEXTS[0]) == answer(plain, TEXTS[0])


# attention


@pytest.mark.parametrize("name", ["eager", "sdpa", "sdpa-flash", "sdpa-math"])
def test_every_kernel_gives_the_same_answer(engine: Transformers, plain: TransformersSession, talker: Path, name: str) -> None:
    session = loaded(engine, talker, case_of(attention=name))
    assert session._model.config._attn_implementation == ("eager" if name == "eager" else "sdpa")
    for text in (*TEXTS, TEXTS[2] * 4):
        assert answer(session, text) == answer(plain, text)


def test_a_kernel_that_takes_nothing_of_the_model_is_unsupported(engine: Transformers, talker: Path) -> None:
    case = case_of(attention="sdpa-efficient")
    assert "choose sdpa, sdpa-flash" in refused(engine, attention="sdpa-efficient")
    session = engine.load(Source(talker), case)
    with pytest.raises(UnsupportedError, match="sdpa-efficient does not take"):
        session.generate(ask(session, "Hello"), 3, "length", time.perf_counter)


def test_attention_that_cannot_be_had_is_refused(engine: Transformers) -> None:
    for word in ("on", "off"):
        assert "llama.cpp" in refused(engine, attention=word)
    assert "CUDA alone" in refused(engine, attention="flash-attention-2")


def test_a_model_without_the_attention_asked_for_is_unsupported(engine: Transformers, talker: Path, tmp_path: Path) -> None:
    fields = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    config = transformers.Gemma2Config(vocab_size=len(VOCABULARY), head_dim=16, **fields)
    shutil.copytree(talker, tmp_path / "two")
    transformers.Gemma2ForCausalLM(config).save_pretrained(tmp_path / "two")
    with pytest.raises(UnsupportedError, match="no attention sdpa-math for this model: choose eager"):
        engine.load(Source(tmp_path / "two"), case_of(attention="sdpa-math"))
    for attention in (None, "eager"):
        assert len(answer(loaded(engine, tmp_path / "two", case_of(attention=attention)), TEXTS[0])) > 0


# KV cache


@pytest.mark.parametrize("kind", ["off", "dynamic", "static"])
def test_every_cache_gives_the_same_answer(engine: Transformers, plain: TransformersSession, talker: Path, kind: str) -> None:
    session = loaded(engine, talker, case_of(kv_cache=kind))
    for text in (*TEXTS, TEXTS[2] * 4, TEXTS[1]):
        assert answer(session, text) == answer(plain, text)


@pytest.mark.parametrize(("kind", "tokens"), [("dynamic", {"sliding": 8, "full": 27}), ("static", {"sliding": 8, "full": 28})])
def test_the_bytes_of_a_cache_at_its_fullest(engine: Transformers, talker: Path, kind: str, tokens: dict[str, int]) -> None:
    case = case_of(kv_cache=kind, prompt_tokens=16, output_tokens=12)
    session = loaded(engine, talker, case)
    prompt = Prompt(0, "", (2, *range(270, 285)))
    session.generate(prompt, 12, "length", time.perf_counter)
    session.generate(prompt, 3, "length", time.perf_counter)
    per_token = 2 * 16 * 4  # keys and values of one head of 16 numbers in fp32
    assert session.values()["kv_cache_bytes"] == per_token * sum(tokens.values())
    session.begin(case)
    assert "kv_cache_bytes" not in session.values()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, tiny_gemma: Path) -> Path:
    """Heads of 64 numbers, as the smallest that real models have."""
    return make_talker(tmp_path_factory.mktemp("wide") / "tiny", tiny_gemma, head_dim=64)


@pytest.mark.parametrize(("dtype", "most"), [("int4", 0.25), ("int2", 0.2), ("fp8", 0.3)])
def test_a_quantized_cache_is_smaller_and_still_answers(engine: Transformers, wide: Path, dtype: str, most: float) -> None:
    if dtype != "fp8":
        pytest.importorskip("optimum.quanto")
    full, small = (
        loaded(engine, wide, case_of(**changes, kv_cache=kind))
        for kind, changes in (("dynamic", {}), ("quantized", {"kv_dtype": dtype}))
    )
    prompt = Prompt(0, "", (2, *(270 + number % 40 for number in range(999))))
    whole, rough = (one.generate(prompt, 4, "length", time.perf_counter) for one in (full, small))
    assert rough.output_tokens == 4
    sliding = 2 * 64 * 4 * 8  # bytes of the sliding layer, which is not quantized
    assert small.values()["kv_cache_bytes"] - sliding < most * (full.values()["kv_cache_bytes"] - sliding)
    if dtype == "fp8":
        assert rough.text[:1] == whole.text[:1]


def test_caches_that_cannot_be_had_are_refused(engine: Transformers) -> None:
    assert "CUDA" in refused(engine, kv_cache="offloaded")
    assert "no q8_0" in refused(engine, kv_cache="quantized", kv_dtype="q8_0")
    assert "kv_cache quantized" in refused(engine, kv_dtype="fp16")
    assert "nothing to fill" in refused(engine, kv_cache="off", depth=8)
    assert refused(engine, kv_dtype="fp32") == refused(engine, kv_cache="quantized", kv_dtype="fp8") == ""


def test_a_model_with_a_state_of_its_own_kind_takes_no_choice_of_cache() -> None:
    own = SimpleNamespace(_supports_default_dynamic_cache=lambda: False)
    for changes in ({"kv_cache": "static"}, {"kv_dtype": "fp32"}, {"compile_mode": "default"}, {"depth": 8}):
        assert "a state of its own kind" in (transformers_caches.unsupported(own, case_of(**changes)) or "")
        assert transformers_caches.unsupported(tiny_model(), case_of(**changes)) is None
    for kind in (None, "off"):
        assert transformers_caches.unsupported(own, case_of(kv_cache=kind)) is None


def test_a_case_whose_cache_the_model_cannot_have_never_begins(engine: Transformers, talker: Path) -> None:
    session = loaded(engine, talker, case_of())
    session._model._supports_default_dynamic_cache = lambda: False
    with pytest.raises(UnsupportedError, match="depth out"):
        session.begin(case_of(depth=8))


# torch.compile


@pytest.mark.skipif(not CXX, reason="needs a C++ compiler")
@pytest.mark.parametrize("changes", [{}, {"batch": 2}, {"depth": 20}, {"sampling": Sampling(top_k=1, repetition_penalty=1.0)}])
def test_compiled_steps_answer_alike_and_compile_in_no_timed_request(
    engine: Transformers, plain: TransformersSession, talker: Path, changes: dict[str, Any]
) -> None:
    from bench.engines.transformers_compile import graphs

    case = case_of(compile_mode="default", prompt_tokens=10, output_tokens=12, **changes)
    session = loaded(engine, talker, case)
    assert session.values()["compile_s"] > 0
    assert "kv_cache_bytes" not in session.values()
    before = graphs()
    assert before > 0
    prompts = [Prompt(0, "", (2, *range(start, start + 9))) for start in (270, 290)][: case.batch]
    for _ in range(2):
        found = session.generate_batch(prompts, 12, "length", time.perf_counter)
        session.generate_batch(prompts, 8, "length", time.perf_counter)
    assert graphs() == before
    plain.begin(case.model_copy(update={"compile_mode": None, "batch": 1}))
    assert [one.text for one in found] == [plain.generate(one, 12, "length", time.perf_counter).text for one in prompts]
    plain.begin(case_of())


@pytest.mark.skipif(not CXX, reason="needs a C++ compiler")
def test_nothing_is_compiled_before_the_case_begins(engine: Transformers, talker: Path) -> None:
    from bench.engines.transformers_compile import graphs

    before = graphs()
    session = engine.load(Source(talker), case_of(compile_mode="default", prompt_tokens=10, depth=300))
    answer(session, TEXTS[0], 1)
    assert graphs() == before
    assert session._requests._before == ()


def test_what_is_never_or_always_compiled_is_unsupported() -> None:
    from torch._dynamo.utils import counters

    from bench.engines.transformers_compile import compile_s

    def compiles_for(runs: int) -> float:
        left = iter(range(runs))
        now = iter(range(100))

        def run() -> None:
            next(now)  # a second, and nine more where it compiles
            if next(left, None) is not None:
                counters["stats"]["unique_graphs"] += 1
                for _ in range(9):
                    next(now)

        return compile_s(run, lambda: float(next(now)))

    assert compiles_for(2) == 18.0
    with pytest.raises(UnsupportedError, match="does not compile"):
        compiles_for(0)
    with pytest.raises(UnsupportedError, match="anew for every request"):
        compiles_for(99)


def test_compile_that_cannot_be_had_is_refused(engine: Transformers) -> None:
    assert "static" in refused(engine, compile_mode="default", kv_cache="dynamic")
    assert "draft" in refused(engine, compile_mode="default", draft="sha256:0", draft_tokens=3)
    assert "mps" in (transformers_compile.refusal(case_of(compile_mode="default", device="mps")) or "")
    code = (
        "from bench.engines.transformers_compile import refusal; from fakes import make_case;"
        "print(refusal(make_case(compile_mode='default')))"
    )
    python = [sys.executable, "-c", code]
    bare = {"PATH": "/nonexistent", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    said = subprocess.run(python, env=bare, capture_output=True, text=True, check=True).stdout
    assert "install g++" in said


# speculative decoding


@pytest.fixture(scope="module")
def similar(tmp_path_factory: pytest.TempPathFactory, tiny_gemma: Path) -> Path:
    """The same weights but for some noise, so that some of its drafts are accepted."""
    return make_talker(tmp_path_factory.mktemp("draft") / "tiny", tiny_gemma, noise=0.05)


@pytest.mark.parametrize("itself", [True, False])
def test_drafts_change_no_token(
    engine: Transformers, plain: TransformersSession, talker: Path, similar: Path, itself: bool
) -> None:
    session = loaded(engine, talker, case_of(draft="sha256:0", draft_tokens=3), draft=talker if itself else similar)
    for text in (*TEXTS, TEXTS[2] * 3):
        generation = session.generate(ask(session, text), 13, "length", time.perf_counter)
        assert generation.text == answer(plain, text, 13)
        assert generation.output_tokens == sum(generation.event_tokens) == 13
        assert len(generation.event_times) == len(generation.event_tokens)
        assert all(before < after for before, after in pairwise(generation.event_times))
        if itself:
            assert generation.event_tokens == (4, 4, 4, 1)
            assert generation.values["accepted_draft_share"] == 1.0
        else:
            assert 0 <= generation.values["accepted_draft_share"] < 1
    assert session.values()["weights_bytes"] == 2 * plain.values()["weights_bytes"]
    if itself:
        bare = loaded(engine, talker, case_of())
        bare.generate(prompt := ask(session, TEXTS[2] * 3), 13, "length", time.perf_counter)
        session.begin(case_of(draft="sha256:0", draft_tokens=3))
        session.generate(prompt, 13, "length", time.perf_counter)
        alone, both = (one.values()["kv_cache_bytes"] for one in (bare, session))
        assert 1.8 * alone < both < 2.2 * alone


def test_drafts_that_cannot_be_had_are_refused(engine: Transformers, talker: Path, tmp_path: Path) -> None:
    draft = {"draft": "sha256:0", "draft_tokens": 3}
    assert "batch" in refused(engine, **draft, batch=2)
    assert "depth" in refused(engine, **draft, depth=8)
    assert "static" in refused(engine, **draft, kv_cache="static")
    assert "random" in refused(engine, draft="random:0", draft_tokens=3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(shutil.copytree(talker, tmp_path / "more"))
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(tmp_path / "more")
    engine.load(Source(talker, draft=tmp_path / "more"), case_of(**draft))
    tokenizer.add_tokens(["<three>"])
    tokenizer.save_pretrained(tmp_path / "more")
    other = transformers.AutoTokenizer.from_pretrained(shutil.copytree(talker, tmp_path / "other"))
    other.add_tokens(["<two>"])
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UnsupportedError, match="other tokens"):
        engine.load(Source(tmp_path / "more", draft=tmp_path / "other"), case_of(**draft))


@pytest.mark.parametrize("rows", [(320, 384), (384, 320)])
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.5, top_k=20)])
def test_a_draft_with_more_or_fewer_rows_than_tokens(
    engine: Transformers, tiny_gemma: Path, tmp_path: Path, rows: tuple[int, int], sampling: Sampling | None
) -> None:
    folders = [make_talker(tmp_path / str(number), tiny_gemma, vocab_size=number) for number in rows]
    session = loaded(engine, folders[0], case_of(draft="sha256:0", draft_tokens=3, sampling=sampling), draft=folders[1])
    found = answer(session, TEXTS[0], 12)
    assert len(found) == 12
    if sampling is None:
        assert found == answer(loaded(engine, folders[0], case_of()), TEXTS[0], 12)


# devices


class StandIn:
    """What `torch.cuda` and `torch.mps` offer, on a clock of milliseconds that each record moves on by ten."""

    def __init__(self) -> None:
        self.now = self.waited = 0
        self.taken, self.Event = [700, 900, 800], self._event

    def _event(self, enable_timing: bool) -> Any:
        assert enable_timing
        outer = self

        class Event:
            def record(self, *stream: Any) -> None:
                outer.now += 10
                self.at = outer.now

            def elapsed_time(self, end: "Event") -> float:
                assert outer.waited, "read before the device was waited for"
                return float(end.at - self.at)

        return Event()

    def synchronize(self, *device: Any) -> None:
        self.waited += 1

    def empty_cache(self) -> None: ...

    def reset_peak_memory_stats(self, device: Any) -> None: ...

    def current_stream(self, device: Any) -> str:
        return "stream"

    def max_memory_allocated(self, device: Any) -> int:
        return self.taken.pop(0)

    def max_memory_reserved(self, device: Any) -> int:
        return 1000

    def driver_allocated_memory(self) -> int:
        return self.taken.pop(0)


@pytest.mark.parametrize(
    ("name", "timing", "allocated"), [("cuda", "cuda_events", [700.0, 900.0]), ("mps", "mps_events", [None, None])]
)
def test_a_device_tells_times_after_one_wait_and_its_peak(name: str, timing: str, allocated: list[float | None]) -> None:
    standin = StandIn()
    torch_with = SimpleNamespace(cuda=standin, mps=standin, zeros=lambda *_, **__: None, bool=None)
    device = DEVICES[name](torch_with, SimpleNamespace(type=name))
    assert device.timing == timing
    device.begin()
    steps = device.steps(1, time.perf_counter)
    steps.start()
    for length in (9, 11):
        steps(SimpleNamespace(shape=(1, length)), None)
    assert steps.times(5.0) == pytest.approx((5.01, 5.02))
    assert standin.waited == 1
    assert steps.tokens(8) == [1, 2]
    assert [device.request_values().get("request_peak_device_bytes") for _ in range(2)] == allocated
    peaks = device.values()
    assert peaks["peak_torch_reserved_bytes"] == (1000.0 if name == "cuda" else 900.0)
    assert peaks.get("peak_torch_allocated_bytes") == (900.0 if name == "cuda" else None)


@pytest.mark.parametrize(("name", "peak"), [("cuda", "peak_torch_allocated_bytes"), ("mps", "peak_torch_reserved_bytes")])
def test_a_device_tells_its_peak_where_nothing_was_requested(name: str, peak: str) -> None:
    standin = StandIn()
    device = DEVICES[name](SimpleNamespace(cuda=standin, mps=standin), SimpleNamespace(type=name))
    device.begin()
    device.wait()
    assert standin.waited == 1
    assert device.values()[peak] == 700.0


def test_a_sequence_has_the_events_of_its_own_tokens() -> None:
    assert own_events((1.0, 2.0, 3.0), [2, 3, 1], 6) == ((1.0, 2.0, 3.0), (2, 3, 1))
    assert own_events((1.0, 2.0, 3.0), [2, 3, 1], 4) == ((1.0, 2.0), (2, 2))
    assert own_events((1.0, 2.0), [1, 1], 0) == ((), ())


def test_devices_that_are_not_here_are_refused(engine: Transformers) -> None:
    if not torch.backends.mps.is_available():
        assert "Apple GPU" in refused(engine, device="mps", threads=None)
    for device, words in (("mps", "sdpa-math"), ("cuda", "")):
        case = case_of(attention="sdpa-flash", device=device)
        assert words in (transformers_attention.refusal(case) or "")
    assert transformers_caches.refusal(case_of(kv_cache="offloaded", device="cuda")) is None


# tensor parallelism


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_gemma: Path) -> Path:
    """Heads enough for two."""
    folder = tmp_path_factory.mktemp("shared") / "tiny"
    return make_talker(folder, tiny_gemma, num_attention_heads=4, num_key_value_heads=2)


def test_two_ranks_answer_as_one(engine: Transformers, shared: Path) -> None:
    alone = loaded(engine, shared, case_of())
    together = loaded(engine, shared, case_of(tensor_parallel=2, threads=2))
    try:
        assert [answer(together, text) for text in TEXTS] == [answer(alone, text) for text in TEXTS]
        full, both = alone.values(), together.values()
        assert both["kv_cache_bytes"] == full["kv_cache_bytes"]
        assert full["weights_bytes"] < both["weights_bytes"] < 2 * full["weights_bytes"]  # each rank has the embeddings
        for changes in ({"batch": 3}, {"depth": 30}, {"sampling": Sampling(temperature=1.5)}, {"kv_cache": "static"}):
            together.begin(case_of(tensor_parallel=2, threads=2, **changes))
            alone.begin(case_of(**changes))
            found, expected = (
                one.generate_batch([ask(one, text) for text in TEXTS][: changes.get("batch", 1)], 12, "length", time.perf_counter)
                for one in (together, alone)
            )
            assert [one.text for one in found] == [one.text for one in expected]
        ranks = [psutil.Process(one.pid) for one in together._ranks]
    finally:
        together.close()
    assert len(ranks) == 1
    assert not any(one.is_running() for one in ranks)


def test_no_rank_outlives_the_worker(shared: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from fakes import make_case;"
        "from bench.engines.protocol import Source; from bench.engines.transformers import Transformers;"
        "session = Transformers().load(Source(Path(sys.argv[1])), make_case(tensor_parallel=2, source_precision=None));"
        "print(session._ranks[0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, shared],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid := int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_layers_that_cannot_be_shared_are_refused(engine: Transformers, talker: Path) -> None:
    for changes in (
        {"draft": "sha256:0", "draft_tokens": 3},
        {"compile_mode": "default"},
        {"weights": "random:0"},
        {"adapter": "sha256:0"},
    ):
        assert "tensor_parallel to 1" in refused(engine, tensor_parallel=2, **changes)
    with pytest.raises(UnsupportedError, match="1 heads of keys and values"):
        engine.load(Source(talker), case_of(tensor_parallel=2))
