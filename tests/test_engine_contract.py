"""What every engine must do, whatever is behind it: one suite over all of them. A new engine is one more row of `SUBJECTS`."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from children import Children
from fakes import make_case
from ollama_standin import OllamaStandin
from tiny_gemma import make_tiny_gguf

from bench.engines.protocol import Engine, Generation, Served, Server, Session, Source, UnsupportedError
from bench.worker import refusal
from bench.workloads import Prompt
from results.cases import Case
from results.errors import GemmeterError

pytestmark = pytest.mark.slow

CONTEXT = 2048
TEXT = "What is machine learning?"
PIECES = "🙂ü"


@dataclass(frozen=True)
class Subject:
    """An engine and what it loads."""

    engine: Engine
    source: Source
    case: Case
    ending: Source | None = None
    """Weights that end their first answer at once, where that can be had."""
    limited: bool = True
    """Whether the context has a limit."""
    pieces: Source | None = None
    """Weights that repeat `PIECES`, a token for each byte, where that can be had."""
    tells_cache: bool = False
    """Whether it says how much of a prompt it had computed before."""

    def load(self, source: Source | None = None) -> Session:
        return self.engine.load(source or self.source, self.case)


def transformers(request: pytest.FixtureRequest) -> Subject:
    pytest.importorskip("torch")
    from bench.engines.transformers import Transformers

    case = make_case(engine="transformers", threads=1, source_precision=None)
    folder, ending = request.getfixturevalue("tiny_gemma"), request.getfixturevalue("tiny_gemma_eos")
    return Subject(Transformers(), Source(folder), case, ending=Source(ending), limited=False)


def llamacpp(request: pytest.FixtureRequest) -> Subject:
    from bench.engines.llamacpp import LlamaCpp

    return _gguf(request, LlamaCpp)


def llamacpp_server(request: pytest.FixtureRequest) -> Subject:
    from bench.engines.llamacpp import LlamaCppServer

    return _gguf(request, LlamaCppServer)


def llama_server(request: pytest.FixtureRequest) -> Subject:
    from bench.engines.llamacpp import LlamaServer

    return _gguf(request, lambda: LlamaServer(str(request.getfixturevalue("llama_server_program"))))


def openai(request: pytest.FixtureRequest) -> Subject:
    from bench.engines.openai import OpenAI

    case = make_case(engine="openai", device="remote", dtype="unknown", quantization="unknown", threads=None)
    served = [
        Source(server=Server("here", _served(request, file), "llama-server"), model="tiny")
        for file in ("tiny_gguf", "tiny_gguf_ending", "tiny_gguf_pieces")
    ]
    return Subject(OpenAI({}), served[0], case, ending=served[1], pieces=served[2], tells_cache=True)


def ollama(request: pytest.FixtureRequest) -> Subject:
    from bench.engines.codecs import FolderCodec
    from bench.engines.ollama import Ollama

    folder = request.getfixturevalue("tiny_gemma")
    codec = FolderCodec(folder)
    standin = OllamaStandin(words=("a", "b", "c"), count=lambda text: len(codec.encode(text, "plain")), pace_s=0.001)
    request.addfinalizer(standin.__exit__)
    server = Server("here", standin.__enter__().url, "ollama", tokenizer=str(folder))
    case = make_case(engine="ollama", device="remote", dtype="unknown", quantization="unknown", threads=None)
    return Subject(Ollama(), Source(server=server, model="gemma3:270m", context_tokens=CONTEXT), case)


SUBJECTS: dict[str, Callable[[pytest.FixtureRequest], Subject]] = {
    "transformers": transformers,
    "llamacpp": llamacpp,
    "llamacpp-server": llamacpp_server,
    "llama-server": llama_server,
    "openai": openai,
    "ollama": ollama,
}


def _served(request: pytest.FixtureRequest, file: str) -> str:
    """The base URL of a llama.cpp server with this file."""
    from bench.engines.llamacpp import LlamaCppServer

    pytest.importorskip("xllamacpp")
    case = make_case(quantization="q8_0", source_precision="q8_0", threads=1)
    session = LlamaCppServer().load(Source(request.getfixturevalue(file), context_tokens=CONTEXT), case)
    request.addfinalizer(session.close)
    return session.endpoint("plain").url.removesuffix("/completions")


def _gguf(request: pytest.FixtureRequest, engine: Callable[[], Engine]) -> Subject:
    pytest.importorskip("xllamacpp")
    case = make_case(quantization="q8_0", source_precision="q8_0", threads=1)
    file, ending = request.getfixturevalue("tiny_gguf"), request.getfixturevalue("tiny_gguf_ending")
    pieces = request.getfixturevalue("tiny_gguf_pieces")
    sources = [Source(one, context_tokens=CONTEXT) for one in (file, ending, pieces)]
    return Subject(engine(), sources[0], case, ending=sources[1], pieces=sources[2], tells_cache=True)


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def tiny_gguf_pieces(tiny_gguf: Path) -> Path:
    return make_tiny_gguf(tiny_gguf.with_name("pieces.gguf"), says=PIECES)


@pytest.fixture(scope="module")
def tiny_gguf_ending(tiny_gguf: Path) -> Path:
    """The same, but for its end of sequence: the token that it says first."""
    from bench.engines.llamacpp import LlamaCpp

    case = make_case(quantization="q8_0", source_precision="q8_0", threads=1)
    session = LlamaCpp().load(Source(tiny_gguf, context_tokens=CONTEXT), case)
    first = session.generate(ask(session, TEXT), 1, "length", time.perf_counter).text
    key = b"tokenizer.ggml.eos_token_id" + (4).to_bytes(4, "little")
    data = tiny_gguf.read_bytes()
    assert key in data
    token = session.encode(first, "plain")[-1]
    session.close()
    path = tiny_gguf.with_name("ending.gguf")
    path.write_bytes(data.replace(key + (1).to_bytes(4, "little"), key + token.to_bytes(4, "little")))
    return path


@pytest.fixture(scope="module")
def llama_server_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("bin") / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("llama_server.py")}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module", params=list(SUBJECTS))
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param](request)


@pytest.fixture(scope="module")
def session(subject: Subject) -> Iterator[Session]:
    loaded = subject.load()
    yield loaded
    loaded.close()


def ask(session: Session, text: str) -> Prompt:
    return Prompt(0, text, tuple(session.encode(text, "plain")))


def check(generation: Generation, tokens: int) -> None:
    """A whole answer of so many tokens."""
    assert generation.error is None
    assert generation.output_tokens == sum(generation.event_tokens) == tokens
    assert len(generation.event_times) == len(generation.event_tokens)
    assert (generation.finish_reason, generation.token_source in ("engine", "usage")) == ("length", True)


def complaint(session: Session, prompt: Prompt, tokens: int) -> str | None:
    """What is said about a request that cannot be served, whichever way; `None` when it was."""
    try:
        generation = session.generate(prompt, tokens, "length", time.perf_counter)
    except (UnsupportedError, GemmeterError) as error:
        return str(error)
    if generation.error is None:
        check(generation, tokens)
    return generation.error


def test_it_takes_the_case_and_says_what_it_is(subject: Subject, session: Session) -> None:
    assert subject.engine.refuse(subject.case) is None
    assert subject.engine.support.starts_server == (isinstance(session, Served) and session.server_pid is not None)
    assert subject.engine.support.concurrent == isinstance(session, Served)
    assert session.timing == "perf_counter"


@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_count_order_and_times_of_tokens(session: Session, tokens: int) -> None:
    prompt = ask(session, TEXT)
    before = time.perf_counter()
    generation = session.generate(prompt, tokens, "length", time.perf_counter)
    after = time.perf_counter()
    check(generation, tokens)
    times = generation.event_times
    assert before <= generation.sent < times[0] <= times[-1] <= after
    assert list(times) == sorted(times)
    with_tokens = [time for time, count in zip(times, generation.event_tokens, strict=True) if count]
    assert generation.first_content in (None, with_tokens[0])
    assert generation.last_content in (None, with_tokens[-1])
    assert generation.prompt_tokens == len(prompt.token_ids)


def test_the_same_prompt_gives_the_same_text(session: Session) -> None:
    first, second = (session.generate(ask(session, TEXT), 12, "length", time.perf_counter).text for _ in range(2))
    assert first == second != ""
    assert session.recount(first) in (None, 12, 13)  # one tokenizer begins every text with a space


def test_tokens_come_one_by_one(session: Session) -> None:
    generation = session.generate(ask(session, TEXT), 40, "length", time.perf_counter)
    assert max(generation.event_tokens) == 1
    assert len(set(generation.event_times)) > 1


def test_characters_of_several_tokens(subject: Subject) -> None:
    """An event has all the tokens of the characters that it completes, and those of half a character are counted too."""
    if subject.pieces is None:
        pytest.skip("no weights that say such characters")
    session = subject.load(subject.pieces)
    try:
        for tokens in (12, 23):
            generation = session.generate(ask(session, TEXT), tokens, "length", time.perf_counter)
            check(generation, tokens)
            assert PIECES in generation.text and not generation.uneven
            assert max(generation.event_tokens) > 1
    finally:
        session.close()


def test_no_prompt_helps_a_later_one(subject: Subject, session: Session) -> None:
    for _ in range(2):
        generation = session.generate(ask(session, TEXT * 4), 2, "length", time.perf_counter)
        assert generation.values.get("cached_prompt_tokens") == (0 if subject.tells_cache else None)


def test_log_probabilities_of_every_token_where_the_engine_has_them(subject: Subject, session: Session) -> None:
    case = subject.case.model_copy(update={"log_probabilities": True})
    plain = session.generate(ask(session, TEXT), 12, "length", time.perf_counter)
    assert "mean_log_probability" not in plain.values
    if not subject.engine.support.log_probabilities:
        assert "log_probabilities" in (refusal(case, subject.engine.support) or "")
        return
    asked = subject.engine.load(subject.source, case)
    try:
        told = [asked.generate(ask(asked, TEXT), 12, "length", time.perf_counter) for _ in range(2)]
    finally:
        asked.close()
    for generation in told:  # there is a mean only where there is one for every token
        check(generation, 12)
        assert -100 < generation.values["mean_log_probability"] <= 0
    assert told[0].values["mean_log_probability"] == pytest.approx(told[1].values["mean_log_probability"], abs=1e-6)
    assert told[0].text == plain.text


def test_it_stops_at_the_end_of_sequence_only_where_it_shall(subject: Subject) -> None:
    if subject.ending is None:
        pytest.skip("no weights that end at once")
    session = subject.load(subject.ending)
    try:
        stopped = session.generate(ask(session, TEXT), 9, "eos", time.perf_counter)
        assert (stopped.output_tokens, stopped.finish_reason, stopped.error) == (1, "stop", None)
        check(session.generate(ask(session, TEXT), 9, "length", time.perf_counter), 9)
    finally:
        session.close()


@pytest.mark.parametrize("text", ["日本語 🙂 ñ", "a\u202eb\x00c", "\\n {}\"'", "𐌰𐌱𐌲"])
def test_any_text_is_a_prompt(session: Session, text: str) -> None:
    prompt = ask(session, text)
    generation = session.generate(prompt, 3, "length", time.perf_counter)
    check(generation, 3)
    assert generation.prompt_tokens == len(prompt.token_ids)
    assert session.decode(prompt.token_ids).strip() == text


@pytest.mark.parametrize("ids", [None, ()])
def test_an_empty_prompt_is_answered_or_refused_with_a_reason(session: Session, ids: tuple[int, ...] | None) -> None:
    prompt = ask(session, "")
    said = complaint(session, prompt if ids is None else replace(prompt, token_ids=ids), 3)
    assert said is None or "prompt" in said


def test_a_prompt_that_is_too_long_is_refused_with_a_reason(subject: Subject, session: Session) -> None:
    prompt = ask(session, "hello " * CONTEXT)
    if subject.limited:
        assert "context" in (complaint(session, prompt, 3) or "")
    check(session.generate(ask(session, TEXT), 3, "length", time.perf_counter), 3)


def test_a_request_that_is_interrupted_leaves_the_session_usable(session: Session) -> None:
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if calls == 6:
            signal.raise_signal(signal.SIGINT)
        return time.perf_counter()

    with pytest.raises(KeyboardInterrupt):
        session.generate(ask(session, TEXT), 1500, "length", clock)
    assert calls < 300
    check(session.generate(ask(session, TEXT), 5, "length", time.perf_counter), 5)


@pytest.mark.parametrize("moment", ["before", "amid"])
def test_a_server_that_dies_is_an_error_with_its_reason(subject: Subject, moment: str) -> None:
    if not subject.engine.support.starts_server:
        pytest.skip("starts no server")
    session = subject.load()
    assert isinstance(session, Served)
    assert session.server_pid
    server = psutil.Process(session.server_pid)
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if calls == 6:
            os.kill(server.pid, signal.SIGKILL)
        return time.perf_counter()

    try:
        check(session.generate(ask(session, TEXT), 3, "length", time.perf_counter), 3)
        assert session.alive() is None
        prompt = ask(session, TEXT)
        if moment == "before":
            server.kill()
            while session.alive() is None:
                time.sleep(0.01)
        generation = session.generate(prompt, 1500, "length", clock if moment == "amid" else time.perf_counter)
        assert (generation.error or "").startswith("disconnected:" if moment == "amid" else ("connect:", "disconnected:"))
        assert sum(generation.event_tokens) < 1500
        assert session.alive() == "The server was killed by signal 9 (SIGKILL)."
    finally:
        session.close()
    assert not server.is_running()


def test_closing_ends_the_server(subject: Subject) -> None:
    if not subject.engine.support.starts_server:
        pytest.skip("starts no server")
    children = Children()
    session = subject.load()
    assert isinstance(session, Served)
    assert session.server_pid
    server = psutil.Process(session.server_pid)
    session.close()
    assert not server.is_running()
    assert children() == []
