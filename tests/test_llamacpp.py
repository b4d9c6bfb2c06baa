"""llama.cpp's three engines beyond the contract that all engines share: what is refused, how it is started, how it ends, its counts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from fakes import make_case
from hypothesis import given
from hypothesis import strategies as st
from json_standin import JsonStandin
from tiny_gemma import gguf_header, make_tiny_gguf

from bench.catalog import catalog
from bench.engines.llamacpp import LlamaCpp, LlamaCppServer, LlamaServer, flags, prepare, variables
from bench.engines.llamacpp_listener import Settings, listen_on_loopback
from bench.engines.llamacpp_session import GgufCodec, LlamaCppSession
from bench.engines.protocol import Engine, Source, UnsupportedError
from bench.gguf_header import GgufHeader
from bench.weights import prepare as prepare_weights
from bench.weights import resolve
from bench.workloads import Prompt
from results.cases import Load, Sampling
from results.errors import UsageError

pytestmark = pytest.mark.slow

CASE = make_case(engine="llamacpp", quantization="q8_0", source_precision="q8_0", threads=1)
SETTINGS = Settings("/m.gguf", "cpu", threads=2, slots=4, context_tokens=512, prompt_cache=False, port=8123)
HEADER = GgufHeader("q8_0", has_chat_template=False, elements=1, weights_bytes=31872)
PROMPT = Prompt(0, "Hello", (2, 300))
THREE = [LlamaCpp, LlamaCppServer, lambda: LlamaServer("/bin/true")]
pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.mark.parametrize("engine", THREE)
def test_what_it_cannot_do_is_refused_with_a_reason(engine: Callable[[], Engine]) -> None:
    refuse = engine().refuse
    assert refuse(CASE) is None
    assert refuse(make_case(quantization="bf16", source_precision=None)) is None
    assert refuse(make_case(quantization="fp32", source_precision="q4_k_m")) is None
    assert "leave quantization out" in (refuse(make_case(quantization="iq3_m", source_precision="q4_k_m")) or "")
    assert refuse(make_case(quantization="iq3_m", source_precision="iq3_m")) is None
    assert "leave dtype out" in (refuse(CASE.model_copy(update={"dtype": "bf16"})) or "")
    assert "choose device cpu" in (refuse(CASE.model_copy(update={"device": "cuda"})) or "")


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"attention": "sdpa"}, "choose on or off"),
        ({"kv_dtype": "int4"}, "choose one of fp32, fp16, bf16, q8_0"),
        ({"kv_dtype": "q8_0", "attention": "off"}, "set attention to on"),
        ({"depth": 64, "load": Load(arrivals="closed", concurrency=1)}, "leave the load out, or depth"),
        ({"tensor_parallel": 2}, "choose device cuda"),
    ],
)
def test_switches_that_it_cannot_turn_are_refused_with_a_remedy(changes: dict[str, Any], remedy: str) -> None:
    assert remedy in (LlamaCppServer().refuse(CASE.model_copy(update=changes)) or "")
    assert LlamaCppServer().refuse(CASE.model_copy(update={"attention": "off", "kv_dtype": "fp16", "depth": 64})) is None


def test_only_servers_take_more_than_one_request_at_a_time() -> None:
    many = [
        CASE.model_copy(update={"slots": 4}),
        CASE.model_copy(update={"load": Load(arrivals="closed", concurrency=1)}),
    ]
    for case in many:
        assert "llamacpp-server" in (LlamaCpp().refuse(case) or "")
        assert LlamaCppServer().refuse(case) is None


def test_without_a_program_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install llama.cpp" in (LlamaServer().refuse(CASE) or "")


def test_the_program_may_have_cuda(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text('#!/bin/sh\n[ "$1" = --list-devices ] && echo "  CUDA0: NVIDIA H100 (81559 MiB, 80000 MiB free)"\n')
    program.chmod(0o755)
    refuse = LlamaServer(str(program)).refuse
    assert refuse(CASE.model_copy(update={"device": "cuda"})) is None
    assert "there are 1 CUDA devices here" in (refuse(CASE.model_copy(update={"device": "cuda", "tensor_parallel": 2})) or "")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_header(15))
    with pytest.raises(UnsupportedError, match="q4_k_m, not q8_0"):
        prepare(Source(file), CASE)
    with pytest.raises(UsageError, match="GGUF file"):
        prepare(Source(), CASE)
    with pytest.raises(UsageError, match=r"gone\.gguf"):
        prepare(Source(tmp_path / "gone.gguf"), CASE)


def test_a_case_becomes_settings(tiny_gguf: Path) -> None:
    case = CASE.model_copy(update={"slots": 3, "prompt_cache": True, "threads": None})
    header, settings = prepare(Source(tiny_gguf, context_tokens=640), case, 8000)
    assert settings == Settings(str(tiny_gguf), "cpu", None, 3, 640, prompt_cache=True, port=8000)
    assert 31_872 <= header.weights_bytes < tiny_gguf.stat().st_size
    assert prepare(Source(tiny_gguf), CASE)[1].slots == 1


def test_what_the_program_is_given() -> None:
    assert " ".join(flags(SETTINGS)) == (
        "--model /m.gguf --host 127.0.0.1 --port 8123 --parallel 4 --ctx-size 2048 --no-webui "
        "--threads 2 --threads-batch 2 --device none"
    )
    cuda = Settings("/m.gguf", "cuda", None, 1, 512, prompt_cache=True, port=8123)
    assert flags(cuda)[-3:] == ["--no-webui", "--n-gpu-layers", "999"]


def test_switches_are_given_in_the_words_of_the_build() -> None:
    settings = replace(SETTINGS, attention="on", kv_type="q8_0", draft="/d.gguf", draft_tokens=4)
    given = flags(settings, "--spec-type --spec-draft-n-max")[len(flags(SETTINGS)) :]
    assert " ".join(given) == (
        "--flash-attn on --cache-type-k q8_0 --cache-type-v q8_0 --model-draft /d.gguf --spec-type draft-simple "
        "--spec-draft-n-max 4 --n-gpu-layers-draft 0"
    )
    older = flags(settings, "--draft-max")
    assert "--spec-type" not in older
    assert older[older.index("--draft-max") + 1] == "4"
    split = flags(replace(SETTINGS, device="cuda", gpus=2))
    assert split[split.index("--split-mode") :] == ["--split-mode", "row", "--tensor-split", "1,1"]


def test_the_switches_of_a_case_become_settings(tiny_gguf: Path) -> None:
    case = CASE.model_copy(
        update={"attention": "on", "kv_dtype": "fp32", "draft": "sha256:0", "draft_tokens": 3, "tensor_parallel": 2}
    )
    header, settings = prepare(Source(tiny_gguf, draft=tiny_gguf), case)
    found = (settings.attention, settings.kv_type, settings.draft, settings.draft_tokens, settings.gpus)
    assert found == ("on", "f32", str(tiny_gguf), 3, 2)
    assert header.weights_bytes == 2 * 31_872


@pytest.fixture(params=["in process", "server", "program"])
def three(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param != "program":
        return {"in process": LlamaCpp, "server": LlamaCppServer}[request.param]()
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("llama_server.py")}" "$@"\n')
    program.chmod(0o755)
    return LlamaServer(str(program))


def test_sampling_repeats_with_its_seed_and_ends_with_its_case(tiny_gguf: Path, three: Any) -> None:
    session = three.load(Source(tiny_gguf, context_tokens=512), CASE)

    def said(sampling: Sampling | None) -> str:
        session.begin(CASE.model_copy(update={"sampling": sampling}))
        generation = session.generate(PROMPT, 24, "length", time.perf_counter)
        assert (generation.error, generation.output_tokens) == (None, 24)
        return str(generation.text)

    try:
        hot = Sampling(temperature=2.0, top_p=1.0, repetition_penalty=1.0, seed=1)
        texts = [said(one) for one in (None, hot, hot, hot.model_copy(update={"seed": 2}), None)]
        assert texts[0] == texts[4] != texts[1] == texts[2] != texts[3]
        assert said(hot.model_copy(update={"top_k": 1})) == texts[0]
        assert said(Sampling(temperature=0.01, top_p=1.0, repetition_penalty=100.0, top_k=1)) != texts[0]
    finally:
        session.close()


def test_behind_a_filled_cache_only_the_prompt_is_evaluated(tiny_gguf: Path, three: Any) -> None:
    """The tiny model's window is 8, so 8 tokens are too few."""
    session = three.load(Source(tiny_gguf, context_tokens=512), CASE)
    prompt = Prompt(0, "x", tuple([2, *range(262, 291)]))
    whole = Prompt(0, "x", (prompt.token_ids * 4)[:100] + prompt.token_ids)
    try:
        alone = session.generate(whole, 12, "length", time.perf_counter)
        session.begin(CASE.model_copy(update={"depth": 100}))
        for _ in range(2):
            behind = session.generate(prompt, 12, "length", time.perf_counter)
            assert (behind.prompt_tokens, behind.output_tokens, behind.text) == (30, 12, alone.text)
            assert behind.values["cached_prompt_tokens"] == 0
        session.begin(CASE.model_copy(update={"depth": 8}))
        with pytest.raises(UnsupportedError, match=r"0 of the 8 tokens .* set depth to more, or to 0"):
            session.generate(prompt, 4, "length", time.perf_counter)
        session.begin(CASE)
        assert session.generate(whole, 12, "length", time.perf_counter).text == alone.text
    finally:
        session.close()


def test_a_model_drafts_for_itself(tiny_gguf: Path, three: Any) -> None:
    case = CASE.model_copy(update={"draft": "sha256:0", "draft_tokens": 3, "attention": "on", "kv_dtype": "fp32"})
    alone = three.load(Source(tiny_gguf, context_tokens=512), CASE.model_copy(update={"attention": "on", "kv_dtype": "fp32"}))
    drafted = three.load(Source(tiny_gguf, draft=tiny_gguf, context_tokens=512), case)
    try:
        one, other = (session.generate(PROMPT, 24, "length", time.perf_counter) for session in (alone, drafted))
        assert (other.text, other.output_tokens, other.uneven) == (one.text, 24, False)
        assert [tokens for tokens in other.event_tokens if tokens] == [1] * 24
        assert other.values["accepted_draft_share"] > 0.9
        assert "accepted_draft_share" not in one.values
        assert drafted.values()["weights_bytes"] == 2 * alone.values()["weights_bytes"]
    finally:
        alone.close()
        drafted.close()


def test_variables_of_the_users_own_do_not_reach_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "64")
    monkeypatch.setenv("LLAMA_API_KEY", "secret")
    given = variables(SETTINGS)
    assert {"PATH", "LLAMA_ARG_CACHE_PROMPT", "LLAMA_ARG_FIT"} <= given.keys()
    assert not {"LLAMA_ARG_CTX_SIZE", "LLAMA_API_KEY"} & given.keys()
    assert "LLAMA_ARG_CACHE_PROMPT" not in variables(Settings("/m.gguf", "cpu", 1, 1, 512, prompt_cache=True))


def test_slots_and_context_are_those_of_the_case(tiny_gguf: Path) -> None:
    case = CASE.model_copy(update={"slots": 2})
    session = LlamaCppServer().load(Source(tiny_gguf, context_tokens=512), case)
    try:
        assert session.values() == {"weights_bytes": 31_872.0, "context_tokens": 512.0}
        longest = Prompt(0, "x", (2, *[300] * 499))
        assert session.generate(longest, 12, "length", time.perf_counter).output_tokens == 12
        refused = session.generate(Prompt(0, "x", (2, *[300] * 512)), 1, "length", time.perf_counter)
        assert (refused.error or "").startswith("http_4xx: 400")
    finally:
        session.close()


@pytest.mark.parametrize("engine", [LlamaCpp, LlamaCppServer])
@pytest.mark.parametrize("cache", [False, True])
def test_the_prompt_cache_is_on_only_where_the_case_is_about_it(tiny_gguf: Path, engine: Any, cache: bool) -> None:
    session = engine().load(Source(tiny_gguf, context_tokens=512), CASE.model_copy(update={"prompt_cache": cache}))
    prompt = Prompt(0, "x", (2, *[300] * 200))
    cached = [session.generate(prompt, 2, "length", time.perf_counter).values["cached_prompt_tokens"] for _ in range(2)]
    session.close()
    assert (cached[0], cached[1] > 100) == (0, cache)


def test_chat_needs_a_template_of_the_models_own(tiny_gguf: Path) -> None:
    routes = {
        "/apply-template": lambda body: (200, {"prompt": f"<{body['messages'][0]['content']}>"}),
        "/tokenize": lambda body: (200, {"tokens": [ord(letter) for letter in body["content"]]}),
    }
    with JsonStandin(routes) as server:
        with pytest.raises(UnsupportedError, match="prompt_format to plain"):
            GgufCodec(server.url, HEADER).encode("hi", "chat")
        assert server.asked == []
        chatty = GgufHeader("q8_0", has_chat_template=True, elements=1, weights_bytes=1)
        assert GgufCodec(server.url, chatty).encode("hi", "chat") == [60, 104, 105, 62]


class FakeLibrary:
    """What `xllamacpp.Server` is to a session: a listener, and chunks for the callback until it cancels."""

    def __init__(self, url: str, chunks: list[dict[str, Any]]) -> None:
        self.listening_address, self._chunks = url, chunks
        self.cancelled = False
        self.asked: list[dict[str, Any]] = []

    def handle_completions(self, body: dict[str, Any], callback: Callable[[dict[str, Any]], bool]) -> None:
        self.asked.append(body)
        for chunk in self._chunks:
            if callback(chunk):
                self.cancelled = True
                return


def chunk(text: str, tokens: int, finish: str | None = None) -> dict[str, Any]:
    timings = {"cache_n": 0, "prompt_n": 2, "prompt_ms": 50.0, "predicted_n": tokens, "predicted_ms": (tokens - 1) * 10.0}
    usage = {"usage": {"prompt_tokens": 2, "completion_tokens": tokens}} if finish else {}
    return {"choices": [{"text": text, "index": 0, "finish_reason": finish}], "timings": timings, **usage}


@pytest.fixture(scope="module")
def listener() -> Any:
    with JsonStandin({"/props": (200, {"default_generation_settings": {"n_ctx": 512}})}) as server:
        yield server.url


@given(parts=st.lists(st.tuples(st.text(min_size=1), st.integers(1, 5)), min_size=1, max_size=20), held=st.integers(0, 3))
def test_every_token_counts_also_those_of_a_character_that_came_in_pieces(
    listener: str, parts: list[tuple[str, int]], held: int
) -> None:
    """`held`: tokens of half a character at the end, which is never shown; the answer ends with the last of them."""
    reached, chunks = 0, []
    for text, tokens in parts:
        reached += tokens
        chunks.append(chunk(text, reached))
    session = LlamaCppSession(FakeLibrary(listener, [*chunks, chunk("", reached + held, "length")]), HEADER)
    ticks = iter(range(100))
    generation = session.generate(PROMPT, reached + held, "length", lambda: float(next(ticks)))
    assert generation.text == "".join(text for text, _ in parts)
    assert generation.output_tokens == sum(generation.event_tokens) == reached + held
    assert generation.event_tokens[: len(parts) - 1] == tuple(tokens for _, tokens in parts[:-1])
    assert (generation.sent, generation.event_times) == (0.0, tuple(map(float, range(1, len(parts) + 2))))
    assert (generation.first_content, generation.last_content) == (1.0, float(len(parts) + (held > 0)))


def test_the_librarys_own_figures_are_kept(listener: str) -> None:
    session = LlamaCppSession(FakeLibrary(listener, [chunk("a", 1), chunk("b", 2), chunk("c", 3, "length")]), HEADER)
    generation = session.generate(PROMPT, 3, "length", time.perf_counter)
    assert generation.values == {
        "cached_prompt_tokens": 0.0, "server_prefill_s": 0.05, "server_decode_s": 0.02, "server_decode_tps": pytest.approx(100),
    }  # fmt: skip
    assert (generation.prompt_tokens, generation.token_source, generation.finish_reason) == (2, "engine", "length")
    assert session.values() == {"weights_bytes": 31872.0, "context_tokens": 512.0}


def test_log_probabilities_are_asked_for_only_where_the_case_has_them(listener: str) -> None:
    library = FakeLibrary(listener, [chunk("a", 1, "length")])
    for asked in (False, True):
        LlamaCppSession(library, HEADER, log_probabilities=asked).generate(PROMPT, 1, "length", time.perf_counter)
    off, on = library.asked
    assert off == {
        "timings_per_token": True, "prompt": [2, 300], "max_tokens": 1, "stream": True, "temperature": 0, "ignore_eos": True,
    }  # fmt: skip
    assert on == off | {"logprobs": 1}


def test_an_answer_that_ends_at_once_is_an_answer(listener: str) -> None:
    session = LlamaCppSession(FakeLibrary(listener, [chunk("", 1, "stop")]), HEADER)
    generation = session.generate(PROMPT, 3, "eos", time.perf_counter)
    assert (generation.text, generation.output_tokens, generation.finish_reason, generation.error) == ("", 1, "stop", None)


@pytest.mark.parametrize(
    ("kind", "raised", "message"),
    [
        ("exceed_context_size_error", UnsupportedError, "too long.*workload.prompt_tokens"),
        ("invalid_request_error", UnsupportedError, "too long.*change the prompt"),
        ("server_error", RuntimeError, "server_error: too long"),
    ],
)
def test_errors_of_the_library_are_raised(listener: str, kind: str, raised: type[Exception], message: str) -> None:
    error = {"error": {"code": 400, "message": "too long", "type": kind}}
    session = LlamaCppSession(FakeLibrary(listener, [error]), HEADER)
    with pytest.raises(raised, match=message):
        session.generate(PROMPT, 3, "length", time.perf_counter)


def test_an_answer_that_breaks_off_is_raised(listener: str) -> None:
    session = LlamaCppSession(FakeLibrary(listener, [chunk("a", 1)]), HEADER)
    with pytest.raises(RuntimeError, match="without a finish reason"):
        session.generate(PROMPT, 3, "length", time.perf_counter)


def test_what_the_clock_raises_cancels_and_comes_out(listener: str) -> None:
    library = FakeLibrary(listener, [chunk("a", 1), chunk("b", 2), chunk("c", 3, "length")])
    ticks = iter([0.0, 1.0])
    with pytest.raises(StopIteration):
        LlamaCppSession(library, HEADER).generate(PROMPT, 3, "length", lambda: next(ticks))
    assert library.cancelled


STARTER = """
import sys, time
from pathlib import Path
from fakes import make_case
from bench.engines.llamacpp import LlamaCppServer, LlamaServer
from bench.engines.protocol import Source
case = make_case(quantization="q8_0", source_precision="q8_0", threads=1)
engine = LlamaServer(sys.argv[2]) if len(sys.argv) > 2 else LlamaCppServer()
print(engine.load(Source(Path(sys.argv[1]), context_tokens=512), case).server_pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["listener", "program"])
def test_no_server_survives_a_parent_that_is_killed(tiny_gguf: Path, tmp_path: Path, kind: str) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("llama_server.py")}" "$@"\n')
    program.chmod(0o755)
    arguments = [str(program)] if kind == "program" else []
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tiny_gguf), *arguments], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert parent.stdout
    server = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    _, alive = psutil.wait_procs([server], timeout=10)
    left = [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    for one in left:
        one.kill()
    assert not left


def test_the_listener_ends_with_its_input_and_holds_nothing_of_ours(tiny_gguf: Path) -> None:
    from bench.engines import llamacpp_listener

    settings = {"model": str(tiny_gguf), "device": "cpu", "threads": 1, "slots": 1, "context_tokens": 256, "prompt_cache": False}
    shown = "import runpy, sys, threading; threading.Thread.join = lambda self: print(*sys.modules); "
    run = f"sys.argv[:] = ['x', {json.dumps(settings)!r}]; runpy.run_path({llamacpp_listener.__file__!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", shown + run], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    loaded = done.stdout.split()
    assert not {"bench", "results", "monitor", "pydantic"} & set(loaded)


def test_the_server_of_every_version_listens_on_loopback_alone() -> None:
    new, old = SimpleNamespace(hostnames=[]), SimpleNamespace(hostname="0.0.0.0")
    listen_on_loopback(new)
    listen_on_loopback(old)
    assert (vars(new), vars(old)) == ({"hostnames": ["127.0.0.1"]}, {"hostname": "127.0.0.1"})


# Real weights.


@pytest.fixture(scope="module")
def gemma() -> Source:
    package = catalog()["gemma-3-270m"].package
    assert package
    pytest.importorskip(package.module)
    file = prepare_weights(resolve("gemma-3-270m", "model"), lambda *_: None, "gguf")
    return Source(file, context_tokens=512)


REAL = make_case(engine="llamacpp", quantization="q4_k_m", source_precision="q4_k_m", threads=2)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("engine", [LlamaCpp, LlamaCppServer])
def test_decoding_is_as_fast_as_llama_cpp_says(gemma: Source, engine: Any) -> None:
    session = engine().load(gemma, REAL)
    try:
        prompt = Prompt(0, "x", tuple(session.encode("What is machine learning? Explain.", "plain")))
        session.generate(prompt, 8, "length", time.perf_counter)
        generation = session.generate(prompt, 160, "length", time.perf_counter)
        assert session.recount(generation.text) == generation.output_tokens == 160
    finally:
        session.close()
    ours = (160 - generation.event_tokens[0]) / (generation.last_content - generation.first_content)
    assert ours == pytest.approx(generation.values["server_decode_tps"], rel=0.03)


@pytest.mark.slow
@pytest.mark.engine
def test_log_probabilities_in_process_and_over_http_are_the_same(gemma: Source) -> None:
    means, texts = [], []
    for engine in (LlamaCpp(), LlamaCppServer()):
        session = engine.load(gemma, REAL.model_copy(update={"log_probabilities": True}))
        try:
            prompt = Prompt(0, "x", tuple(session.encode("The capital of France is", "plain")))
            generation = session.generate(prompt, 24, "length", time.perf_counter)
        finally:
            session.close()
        assert generation.output_tokens == sum(generation.event_tokens) == 24
        means.append(generation.values["mean_log_probability"])
        texts.append(generation.text)
    assert texts[0] == texts[1]
    assert means[0] == pytest.approx(means[1], abs=1e-3)
    assert -5 < means[0] < 0


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("engine", [LlamaCpp, LlamaCppServer])
@pytest.mark.parametrize("log_probabilities", [False, True])
def test_characters_of_several_tokens_come_whole(gemma: Source, engine: Any, log_probabilities: bool) -> None:
    """And have no mean log-probability, as llama.cpp tells that of their last tokens only."""
    session = engine().load(gemma, REAL.model_copy(update={"log_probabilities": log_probabilities}))
    try:
        prompt = Prompt(0, "x", tuple(session.encode("𐌰𐌱𐌲𐌳" * 4 + "𐌰𐌱", "plain")))
        generation = session.generate(prompt, 24, "length", time.perf_counter)
    finally:
        session.close()
    assert generation.text == "𐌲𐌳𐌰𐌱𐌲𐌳"
    assert [tokens for tokens in generation.event_tokens if tokens] == [4] * 6
    assert "mean_log_probability" not in generation.values


@pytest.mark.slow
@pytest.mark.engine
def test_a_real_model_drafts_for_itself_and_says_the_same(gemma: Source) -> None:
    """Only numbers that are nearly equal may fall otherwise, as llama.cpp checks drafts in batches: not within these words."""
    case = REAL.model_copy(update={"draft": "sha256:0", "draft_tokens": 4})
    texts = []
    for one, source in ((REAL, gemma), (case, replace(gemma, draft=gemma.weights))):
        session = LlamaCpp().load(source, one)
        prompt = Prompt(0, "x", tuple(session.encode("The capital of France is Paris. The capital of Germany is", "plain")))
        generation = session.generate(prompt, 10, "length", time.perf_counter)
        texts.append(generation.text)
        session.close()
    assert texts[0] == texts[1]
    assert generation.output_tokens == sum(generation.event_tokens) == 10
    assert generation.values["accepted_draft_share"] > 0.5


@pytest.mark.slow
@pytest.mark.engine
def test_a_real_model_samples_and_goes_on_behind_a_filled_cache(gemma: Source) -> None:
    session = LlamaCppServer().load(replace(gemma, context_tokens=1024), REAL)
    try:
        prompt = Prompt(0, "x", tuple(session.encode("The capital of France is Paris. The capital of Germany is", "plain")))
        texts = []
        for seed in (None, 1, 1, 2):
            sampling = None if seed is None else Sampling(temperature=1.5, top_p=0.95, seed=seed)
            session.begin(REAL.model_copy(update={"sampling": sampling}))
            texts.append(session.generate(prompt, 12, "length", time.perf_counter).text)
        assert texts[1] == texts[2]
        assert len(set(texts)) == 3
        session.begin(REAL.model_copy(update={"depth": 600}))
        behind = session.generate(prompt, 4, "length", time.perf_counter)
        assert (behind.prompt_tokens, behind.error, behind.values["cached_prompt_tokens"]) == (len(prompt.token_ids), None, 0)
    finally:
        session.close()


@pytest.mark.slow
@pytest.mark.engine
def test_a_quantized_kv_cache_takes_less_memory(gemma: Source) -> None:
    """Three layers of Gemma 3 270M see the whole context: 3 KiB a token in 16 bits; buffers of the other layers are small."""
    peaks = {}
    for kv_dtype in ("fp16", "q8_0"):
        case = REAL.model_copy(update={"kv_dtype": kv_dtype, "attention": "on"})
        session = LlamaCppServer().load(replace(gemma, context_tokens=32768), case)
        peaks[kv_dtype] = psutil.Process(session.server_pid).memory_info().rss
        session.close()
    saved = (peaks["fp16"] - peaks["q8_0"]) / (32768 * 3 * 2 * 256 * 2)
    assert saved == pytest.approx(1 - 34 / 64, abs=0.15)
