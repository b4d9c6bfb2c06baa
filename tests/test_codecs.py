"""Who tokenizes for a server: the server's own endpoints in their documented forms, a tokenizer's folder, nobody."""

from pathlib import Path
from typing import Any

import pytest
from fakes import make_case
from hypothesis import given
from hypothesis import strategies as st
from json_standin import JsonStandin

from bench.engines.codecs import FolderCodec, LlamaServerCodec, NoCodec, VllmCodec
from bench.engines.protocol import UnsupportedError
from bench.engines.server_calls import ServerCalls, ServerError
from bench.engines.transformers import Transformers
from bench.workloads import load_prompts, speed_prompt

pytestmark = pytest.mark.slow

BOS = 1_200_000


def ids_of(text: str) -> list[int]:
    return [ord(character) for character in text]


def text_of(ids: list[int]) -> str:
    return "".join("<bos>" if one == BOS else chr(one) for one in ids)


def llama_server() -> JsonStandin:
    """llama-server's endpoints; a token is a character."""
    return JsonStandin(
        {
            "/tokenize": lambda body: (200, {"tokens": [BOS] * body["add_special"] + ids_of(body["content"])}),
            "/detokenize": lambda body: (200, {"content": text_of(body["tokens"])}),
            "/apply-template": lambda body: (200, {"prompt": f"<user>{body['messages'][0]['content']}<model>"}),
        }
    )


def vllm(answer: str = "prompt") -> JsonStandin:
    """vLLM's endpoints; SGLang calls the text in its answer `text`."""

    def tokenize(body: Any) -> tuple[int, Any]:
        text = body["prompt"] if "prompt" in body else f"<user>{body['messages'][0]['content']}<model>"
        tokens = [BOS] * body.get("add_special_tokens", True) + ids_of(text)
        return 200, {"tokens": tokens, "count": len(tokens), "max_model_len": 4096}

    return JsonStandin({"/tokenize": tokenize, "/detokenize": lambda body: (200, {answer: text_of(body["tokens"])})})


@pytest.mark.parametrize("kind", ["llama-server", "vllm", "sglang"])
def test_a_server_tokenizes(kind: str) -> None:
    with llama_server() if kind == "llama-server" else vllm("prompt" if kind == "vllm" else "text") as server:
        codec = LlamaServerCodec(server.url) if kind == "llama-server" else VllmCodec(server.url, "gemma")
        assert codec.can_encode
        assert codec.encode("Hello 🙂", "plain") == [BOS, *ids_of("Hello 🙂")]
        assert codec.encode("Hello", "chat") == [BOS, *ids_of("<user>Hello<model>")]
        assert codec.decode(codec.encode("größer", "plain")) == "größer"
        assert codec.decode(ids_of("no beginning")) == "no beginning"
        assert codec.recount("Hello") == 5
        prompt = speed_prompt(load_prompts("five-questions"), 0, "1.7", 40, "plain", codec.encode, codec.decode)
        assert len(prompt.token_ids) == 40 and not prompt.text.startswith("<bos>")


def test_the_key_and_the_model_go_with_every_call() -> None:
    with vllm() as server:
        VllmCodec(server.url, "gemma", headers={"Authorization": "Bearer k"}).recount("Hello")
        (path, body, headers) = server.asked[0]
        assert (path, body["model"], body["add_special_tokens"], headers["authorization"]) == (
            "/tokenize",
            "gemma",
            False,
            "Bearer k",
        )


def test_a_model_without_a_chat_template_is_refused_with_a_remedy() -> None:
    with llama_server() as server:
        server.routes["/apply-template"] = (500, {"error": {"code": 500, "message": "no template", "type": "server_error"}})
        with pytest.raises(UnsupportedError, match=r"500: no template\): set workload.prompt_format to plain"):
            LlamaServerCodec(server.url).encode("Hello", "chat")
        del server.routes["/apply-template"]
        with pytest.raises(UnsupportedError, match="name a tokenizer folder"):
            LlamaServerCodec(server.url).encode("Hello", "chat")


@pytest.mark.slow
def test_a_folder_gives_the_tokens_of_the_engine_in_process(tiny_gemma_chat: Path) -> None:
    pytest.importorskip("torch")
    from bench.engines.protocol import Source

    codec = FolderCodec(tiny_gemma_chat)
    session = Transformers().load(Source(weights=tiny_gemma_chat), make_case(threads=1))
    for text in ("", "What is machine learning?", "日本語 🙂"):
        assert codec.encode(text, "plain") == session.encode(text, "plain")
        assert codec.encode(text, "chat") == session.encode(text, "chat")
        assert codec.decode(codec.encode(text, "plain")) == text
        assert codec.recount(text) == len(codec.encode(text, "plain")) - 1


def test_a_folder_without_a_template_or_a_tokenizer_is_refused(tiny_gemma: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no chat template"):
        FolderCodec(tiny_gemma).encode("Hello", "chat")
    with pytest.raises(UnsupportedError, match="holds no tokenizer"):
        FolderCodec(tmp_path)


@pytest.mark.parametrize("answer", [[], 3, None, {}, {"tokens": 3, "content": 3, "prompt": 3, "text": 3}])
def test_endpoints_of_another_kind_are_said(answer: Any) -> None:
    """Whatever a path means there: it is an error with a remedy, and no traceback."""
    with JsonStandin({path: (200, answer) for path in ("/tokenize", "/detokenize", "/apply-template")}) as other:
        for codec in (LlamaServerCodec(other.url, name="staging"), VllmCodec(other.url, "gemma", name="staging")):
            for ask in (lambda one: one.encode("a", "plain"), lambda one: one.recount("a"), lambda one: one.decode([1])):
                with pytest.raises(ServerError, match=r"staging answered /[a-z]* as no server of its kind does"):
                    ask(codec)
            with pytest.raises(UnsupportedError, match="prompt_format to plain"):
                codec.encode("a", "chat")
        other.routes["/tokenize"] = (200, {"tokens": [1]})
        with pytest.raises(ServerError, match="answered /detokenize"):
            VllmCodec(other.url, "gemma", name="staging").decode([1])


@given(st.text())
def test_nobody_sends_texts_as_they_are(text: str) -> None:
    codec = NoCodec()
    assert not codec.can_encode
    assert codec.encode(text, "chat") == ()
    assert codec.recount(text) is None
    with pytest.raises(UnsupportedError, match="leave prompt_tokens out, or name a tokenizer"):
        codec.decode((1, 2))


# The calls below them.


def test_no_redirect_is_followed_with_a_key() -> None:
    with JsonStandin({}) as other, JsonStandin({"/models": (307, other.url)}) as server:
        with pytest.raises(ServerError, match="answered /models with 307") as refused:
            ServerCalls(server.url, "s", {"Authorization": "Bearer k"}).ask("/models")
        assert refused.value.status == 307
        assert other.asked == []


def test_https_where_http_is_spoken_is_said_so() -> None:
    with JsonStandin({}) as server, pytest.raises(ServerError, match=r"no secure connection .*check http:// or https://"):
        ServerCalls(server.url.replace("http:", "https:"), "s").ask("/models")


def test_messages_name_the_server_and_neither_its_url_nor_the_key() -> None:
    with JsonStandin(
        {"/a": (200, b"<html>"), "/b": (401, {"error": {"message": "who is Bearer secret\x1b[2J?"}}), "/c": (503, b"busy")}
    ) as server:
        calls = ServerCalls(server.url, "staging", {"Authorization": "Bearer secret"})
        messages = []
        for path in ("/a", "/b", "/c", "/d"):
            with pytest.raises(ServerError) as refused:
                calls.ask(path)
            messages.append(str(refused.value))
        assert "something else than JSON" in messages[0]
        assert "refused the key (401: who is ***" in messages[1] and "\x1b" not in messages[1]
        assert messages[2] == "The server staging answered /c with 503."
        assert messages[3] == "The server staging answered /d with 404: not found."
        for text in (*messages, repr(calls)):
            assert server.url not in text and "secret" not in text and "staging" in text
    with pytest.raises(ServerError, match="staging cannot be asked: its URL holds what no address can") as odd:
        ServerCalls("http://127.0.0.1:1/inner path", "staging").ask("/models")
    assert "inner" not in str(odd.value)
