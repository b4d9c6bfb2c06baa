"""What bytes become: texts, tokens per event and times, for each dialect, and every way in which a stream is broken."""

import json
from itertools import accumulate
from typing import Any

import pytest
from golden_server import Script, count_tokens, golden_text, token_text, writes_of
from hypothesis import given
from hypothesis import strategies as st

from monitor.event_tokens import event_tokens
from monitor.stream import Answer, Dialect, read_answer
from results.records import ERROR_KINDS


def sse(*events: Any) -> bytes:
    return b"".join(b"data: %s\n\n" % (event if isinstance(event, bytes) else json.dumps(event).encode()) for event in events)


def chat(content: str | None = None, finish: str | None = None, reasoning: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {"content": content, "reasoning_content": reasoning}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more


def usage(prompt: Any, output: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output} | more}


def lines(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def timed(*parts: bytes) -> list[tuple[float, bytes]]:
    """Parts that come one a second, from 1 s on."""
    return [(float(number), part) for number, part in enumerate(parts, 1)]


def read(*parts: bytes, dialect: Dialect = "openai-chat", **options: Any) -> Answer:
    return read_answer(timed(*parts), dialect, **options)


ROLE, DONE = chat(""), b"[DONE]"


def test_a_whole_chat_answer() -> None:
    answer = read(sse(ROLE), sse(chat("Hel")), sse(chat("lo")), sse(chat(None, "length")), sse(usage(5, 2), DONE))
    assert answer == Answer(
        event_times=(1.0, 2.0, 3.0, 4.0, 5.0),
        event_tokens=(0, 1, 1, 0, 0),
        text="Hello",
        first_content=2.0,
        last_content=3.0,
        prompt_tokens=5,
        output_tokens=2,
        token_source="usage",
        finish_reason="length",
    )


def test_plain_completions() -> None:
    said = [{"choices": [{"text": text, "finish_reason": None}]} for text in ("a", " b")]
    answer = read(
        sse(*said), sse({"choices": [{"text": "", "finish_reason": "stop"}]}, usage(1, 2), DONE), dialect="openai-completions"
    )
    assert (answer.text, answer.event_tokens, answer.finish_reason, answer.error) == ("a b", (1, 1, 0, 0), "stop", None)
    assert (answer.first_content, answer.last_content) == (1.0, 1.0)


def test_thinking_counts_as_output_but_is_not_content() -> None:
    for field in ("reasoning_content", "reasoning"):
        thought = {"choices": [{"delta": {"content": None, field: "hm"}}]}
        answer = read(sse(ROLE), sse(thought), sse(chat("yes")), sse(chat(None, "stop"), usage(1, 2), DONE))
        assert (answer.reasoning, answer.text, answer.event_tokens) == ("hm", "yes", (0, 1, 1, 0, 0))
        assert (answer.first_reasoning, answer.first_content, answer.last_content) == (2.0, 3.0, 3.0)


def test_who_only_thinks_has_tokens_but_no_content() -> None:
    answer = read(sse(chat(reasoning="a")), sse(chat(reasoning="b")), sse(chat(None, "length"), usage(1, 2), DONE))
    assert (answer.first_content, answer.last_content, answer.first_reasoning) == (None, None, 1.0)
    assert (answer.event_tokens, answer.output_tokens, answer.error) == ((1, 1, 0, 0), 2, None)


def test_the_servers_running_count_is_exact() -> None:
    """As of vLLM with usage in every event, and of llama.cpp with timings in every event; the end of sequence has its own."""
    for counted in (
        lambda n: {"usage": {"completion_tokens": n}},
        lambda n: {"timings": {"predicted_n": n, "predicted_ms": 1.0}},
    ):
        answer = read(
            sse(chat("", **counted(0)), chat("abc", **counted(3)), chat("d", **counted(4)), chat("", "stop", **counted(5)), DONE)
        )
        assert (answer.event_tokens, answer.output_tokens, answer.uneven) == ((0, 3, 1, 1), 5, False)


@pytest.mark.parametrize("usage_of", [lambda n: {"usage": {"completion_tokens": n}}, lambda n: {"timings": {"predicted_n": n}}])
def test_tokens_without_text_are_tokens_where_the_server_counts_them(usage_of: Any) -> None:
    """As after an ignored end of sequence: special tokens, which no server shows."""
    role, texts = sse(chat("", **usage_of(0))), ["a", "b", "", "c", "", ""]
    parts = [sse(chat(text, **usage_of(n))) for n, text in enumerate(texts, 1)]
    answer = read(role, *parts, sse(chat(None, "length", **usage_of(6))), sse(usage(1, 6), DONE))
    assert (answer.event_tokens, answer.output_tokens, answer.uneven) == ((0, 1, 1, 1, 1, 1, 1, 0, 0), 6, False)
    assert (answer.first_content, answer.last_content, answer.error) == (2.0, 7.0, None)
    parts = [sse(chat("", **usage_of(n))) for n in range(1, 7)]
    unseen = read(role, *parts, sse(chat(None, "length", **usage_of(6))), sse(usage(1, 6), DONE))
    assert (unseen.event_tokens, unseen.text, unseen.error) == ((0, 1, 1, 1, 1, 1, 1, 0, 0), "", None)
    assert (unseen.first_content, unseen.last_content) == (2.0, 7.0)
    stopped = read(role, *parts, sse(chat(None, "stop", **usage_of(6))), sse(usage(1, 6), DONE))
    assert (stopped.error or "").startswith("empty: ")
    thought = read(role, sse(chat(reasoning="hm", **usage_of(1))), sse(chat("", "length", **usage_of(2))), sse(usage(1, 2), DONE))
    assert (thought.event_tokens, thought.first_content, thought.last_content) == ((0, 1, 1, 0), None, None)


def test_a_total_in_every_event_is_no_running_count() -> None:
    for said in ("", "a"):
        answer = read(
            *(sse(chat(text, usage={"completion_tokens": 5})) for text in ("", said)),
            sse(chat(None, "length"), usage(1, 5), DONE),
        )
        assert answer.event_tokens == (0, 5 if said else 0, 0, 0)
        assert (answer.error or "").startswith("empty") == (said == "")


def test_thoughts_that_are_not_shown_come_before_the_first_content() -> None:
    said = [sse(chat(letter)) for letter in "abcde"]
    hidden = usage(1, 45, completion_tokens_details={"reasoning_tokens": 40})
    answer = read(sse(ROLE), *said, sse(chat(None, "stop"), hidden, DONE))
    assert (answer.event_tokens, answer.output_tokens, answer.uneven) == ((0, 41, 1, 1, 1, 1, 0, 0), 45, False)
    with_end = read(
        sse(ROLE), *said, sse(chat(None, "stop"), hidden | {"usage": hidden["usage"] | {"completion_tokens": 46}}, DONE)
    )
    assert (with_end.event_tokens[:6], with_end.output_tokens) == ((0, 41, 1, 1, 1, 1), 46)
    shown = read(
        sse(chat(reasoning="hm")), *said, sse(chat(None, "stop"), usage(1, 6, completion_tokens_details={"reasoning_tokens": 1}))
    )
    assert shown.event_tokens == (1, 1, 1, 1, 1, 1, 0, 0)


@pytest.mark.parametrize("told", [None, [], "x", {"reasoning_tokens": None}, {"reasoning_tokens": 5}, {"reasoning_tokens": -1}])
def test_thoughts_that_cannot_be_so_many_are_not_believed(told: Any) -> None:
    answer = read(sse(*map(chat, "abcde")), sse(chat(None, "stop"), usage(1, 5, completion_tokens_details=told), DONE))
    assert (answer.event_tokens, answer.uneven) == ((1, 1, 1, 1, 1, 0, 0), False)


@pytest.mark.parametrize("counts", [(5, 5, 5), (0, 0, 5), (3, 2, 5), (1, 2, 9)])
def test_a_running_count_that_cannot_be_one_is_not_believed(counts: tuple[int, ...]) -> None:
    events = [chat(text, usage={"completion_tokens": count}) for text, count in zip(("a", "b", "cd"), counts, strict=True)]
    answer = read(sse(*events, chat(None, "length"), usage(1, 5), DONE))
    assert (answer.output_tokens, answer.uneven, answer.event_tokens) == (5, True, (1, 1, 3, 0, 0))


def test_an_end_of_sequence_without_an_event_counts_with_none() -> None:
    def answer(finish: str) -> Answer:
        return read(sse(chat("a"), chat("b"), chat(None, finish), usage(1, 3), DONE))

    assert (answer("stop").event_tokens, answer("stop").output_tokens, answer("stop").uneven) == ((1, 1, 0, 0), 3, False)
    assert answer("length").uneven


def test_a_tokenizer_says_how_many_tokens_an_event_carried() -> None:
    parts = sse(chat(" a b c"), chat(" d"), chat(" e f", "length"), usage(1, 6), DONE)
    answer = read(parts, count=count_tokens)
    assert (answer.event_tokens, answer.uneven, answer.token_source) == ((3, 1, 2, 0), False, "usage")
    other = read(parts, count=len)
    assert (other.output_tokens, other.uneven, sum(other.event_tokens)) == (6, True, 6)


def test_without_usage_the_tokenizer_counts_and_without_one_nobody_does() -> None:
    parts = sse(chat(" a b"), chat(" c", "length"), DONE)
    counted = read(parts, count=count_tokens)
    assert (counted.event_tokens, counted.output_tokens, counted.token_source) == ((2, 1), 3, "tokenizer")
    unknown = read(parts)
    assert (unknown.event_tokens, unknown.output_tokens, unknown.token_source, unknown.error) == ((1, 1), None, None, None)


@pytest.mark.parametrize("broken", [-1, True, 2.5, "7", None, 10**30, [], 0])
def test_a_count_that_is_none_is_not_believed(broken: Any) -> None:
    answer = read(sse(chat("a", "length"), usage(broken, broken), DONE))
    assert (answer.prompt_tokens, answer.output_tokens, answer.error) == (None, None, None)


def test_llama_cpp_timings() -> None:
    timings = {"cache_n": 4, "prompt_n": 6, "prompt_ms": 30.0, "predicted_n": 11, "predicted_ms": 200.0}
    answer = read(sse(*(chat(letter) for letter in "abcdefghijk"), chat(None, "length", timings=timings), DONE))
    assert (answer.prompt_tokens, answer.output_tokens, answer.event_tokens) == (10, 11, (1,) * 11 + (0,))
    assert answer.values == {
        "cached_prompt_tokens": 4.0,
        "server_prefill_s": 0.03,
        "server_decode_s": 0.2,
        "server_decode_tps": 50.0,
    }


def test_cached_prompt_tokens_of_the_usage() -> None:
    answer = read(sse(chat("a", "length"), usage(9, 1, prompt_tokens_details={"cached_tokens": 8}), DONE))
    assert answer.values == {"cached_prompt_tokens": 8.0}
    assert read(sse(chat("a", "length"), usage(9, 1, prompt_tokens_details=None), DONE)).values == {}


# Log-probabilities: one event with so many of them, in each of the forms that servers have.


def told_chat(text: str, *told: Any, finish: str | None = None) -> dict[str, Any]:
    return {
        "choices": [
            {"delta": {"content": text}, "finish_reason": finish, "logprobs": {"content": [{"logprob": one} for one in told]}}
        ]
    }


def told_plain(text: str, *told: Any, finish: str | None = None) -> dict[str, Any]:
    logprobs = {"text_offset": [0], "token_logprobs": [*told], "tokens": ["x"] * len(told), "top_logprobs": None}
    return {"choices": [{"text": text, "finish_reason": finish, "logprobs": logprobs}]}


def told_llama_cpp(text: str, *told: Any, finish: str | None = None) -> dict[str, Any]:
    content = [{"id": 7, "token": "x", "bytes": [120], "logprob": one, "top_logprobs": [{"logprob": -9.0}]} for one in told]
    return {"choices": [{"text": text, "finish_reason": finish, "logprobs": {"content": content} if told else None}]}


def told_ollama(text: str, *told: Any, finish: str | None = None) -> dict[str, Any]:
    said = {"response": text, "done": False, "logprobs": [{"token": "x", "logprob": one} for one in told]}
    return said if finish is None else said | {"done": True, "done_reason": finish}


FORMS: list[tuple[Dialect, Any]] = [
    ("openai-chat", told_chat), ("openai-completions", told_plain), ("openai-completions", told_llama_cpp), ("ollama-generate", told_ollama),
]  # fmt: skip


def body_of(dialect: Dialect, *events: dict[str, Any], output: int | None) -> bytes:
    """A whole answer; `output`: what the server says that it has."""
    if dialect == "ollama-generate":
        return lines(*events[:-1], events[-1] | ({} if output is None else {"eval_count": output}))
    return sse(*events, *([] if output is None else [usage(1, output)]), DONE)


@pytest.mark.parametrize(("dialect", "told"), FORMS)
@pytest.mark.parametrize("output", [6, None])
def test_log_probabilities_are_averaged_and_tell_the_tokens_of_events(dialect: Dialect, told: Any, output: int | None) -> None:
    """A token may have no text: it was held back, or there is none."""
    events = [told("ab", -0.5, -1), told("", -1.5), told("cde", -2.0, 0), told("", -1.0, finish="length")]
    answer = read(body_of(dialect, *events, output=output), dialect=dialect, count=lambda text: len(text) + 1)
    assert answer.error is None
    assert answer.values["mean_log_probability"] == -1.0
    assert (answer.event_tokens[:4], answer.output_tokens, answer.uneven) == ((2, 1, 2, 1), 6, False)
    assert answer.token_source == ("usage" if output else "tokenizer")


@pytest.mark.parametrize(("dialect", "told"), FORMS)
def test_log_probabilities_alone_count_nothing(dialect: Dialect, told: Any) -> None:
    """They may be those of some tokens only: a tokenizer knows better, and without one nobody knows."""
    body = body_of(dialect, told("a", -1.0), told("🙂", -2.0, finish="length"), output=None)
    counted, alone = read(body, dialect=dialect, count=lambda text: len(text.encode())), read(body, dialect=dialect)
    assert (counted.output_tokens, counted.token_source, counted.event_tokens[:2]) == (5, "tokenizer", (1, 4))
    assert (alone.output_tokens, alone.token_source) == (None, None)
    assert "mean_log_probability" not in counted.values | alone.values


@pytest.mark.parametrize(("dialect", "told"), FORMS)
def test_the_end_of_sequence_may_have_no_log_probability(dialect: Dialect, told: Any) -> None:
    def answer(finish: str) -> Answer:
        return read(body_of(dialect, told("a", -1.0), told("b", -2.0), told("", finish=finish), output=3), dialect=dialect)

    assert (answer("stop").values["mean_log_probability"], answer("stop").event_tokens[:3]) == (-1.5, (1, 1, 0))
    assert "mean_log_probability" not in answer("length").values


@pytest.mark.parametrize(("dialect", "told"), FORMS)
def test_log_probabilities_of_some_tokens_are_none_of_the_answer(dialect: Dialect, told: Any) -> None:
    """As of llama.cpp, when a character takes several tokens."""
    answer = read(body_of(dialect, told("a", -1.0), told("🙂🙂🙂", -2.0, finish="length"), output=9), dialect=dialect)
    assert "mean_log_probability" not in answer.values
    assert (answer.output_tokens, sum(answer.event_tokens), answer.uneven) == (9, 9, True)


def test_a_running_count_is_believed_where_log_probabilities_are_too_few() -> None:
    events = [
        told_llama_cpp("🙂", -1.0) | {"timings": {"predicted_n": 4}},
        told_llama_cpp("a", -1.0) | {"timings": {"predicted_n": 5}},
    ]
    answer = read(
        sse(*events, {"choices": [{"text": "", "finish_reason": "length"}]}, usage(1, 5), DONE), dialect="openai-completions"
    )
    assert (answer.event_tokens[:2], answer.uneven, answer.values) == ((4, 1), False, {})


@pytest.mark.parametrize("broken", [None, "x", True, 0.5, -9999.0, -1e400, {}, []])
@pytest.mark.parametrize(("dialect", "told"), FORMS)
def test_what_is_no_log_probability_leaves_no_mean_but_counts(dialect: Dialect, told: Any, broken: Any) -> None:
    answer = read(body_of(dialect, told("ab", -1.0, broken), told("c", -1.0, finish="length"), output=3), dialect=dialect)
    assert (answer.error, answer.event_tokens[:2]) == (None, (2, 1))
    assert "mean_log_probability" not in answer.values


@pytest.mark.parametrize("broken", [1, "x", [1], {}, {"content": 3}, {"content": None}, {"token_logprobs": "x"}, {"refusal": []}])
def test_log_probabilities_in_no_known_form_are_none(broken: Any) -> None:
    answer = read(
        sse({"choices": [{"delta": {"content": "a"}, "finish_reason": "length", "logprobs": broken}]}, usage(1, 2), DONE)
    )
    assert (answer.error, answer.output_tokens, "mean_log_probability" in answer.values) == (None, 2, False)


def test_thoughts_have_log_probabilities_too() -> None:
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}, "logprobs": {"content": [{"logprob": -3.0}]}}]}
    answer = read(sse(thought, told_chat("yes", -1.0, finish="stop"), usage(1, 2), DONE))
    assert (answer.values["mean_log_probability"], answer.event_tokens[:2]) == (-2.0, (1, 1))


LAST = {
    "done": True, "done_reason": "length", "total_duration": 3_000_000_000, "load_duration": 500_000_000, "prompt_eval_count": 7,
    "prompt_eval_duration": 250_000_000, "eval_count": 3, "eval_duration": 1_000_000_000,
}  # fmt: skip
OLLAMA_VALUES = {
    "server_total_s": 3.0, "server_load_s": 0.5, "server_prefill_s": 0.25, "server_decode_s": 1.0, "server_decode_tps": 2.0,
}  # fmt: skip


def test_ollama_chat() -> None:
    said = [
        {"message": {"role": "assistant", "content": text, "thinking": thought}}
        for text, thought in (("", "hm"), ("a", ""), ("b", ""))
    ]
    answer = read(*(lines(one) for one in said), lines(LAST | {"message": {"content": ""}}), dialect="ollama-chat")
    assert (answer.text, answer.reasoning, answer.event_tokens, answer.event_times) == (
        "ab",
        "hm",
        (1, 1, 1, 0),
        (1.0, 2.0, 3.0, 4.0),
    )
    assert (answer.first_reasoning, answer.first_content, answer.last_content) == (1.0, 2.0, 3.0)
    assert (answer.prompt_tokens, answer.output_tokens, answer.finish_reason, answer.values) == (7, 3, "length", OLLAMA_VALUES)
    assert answer.error is None


def test_ollama_generate() -> None:
    said = [lines({"response": text, "done": False}) for text in "abc"]
    answer = read(*said, lines(LAST | {"response": "", "done_reason": "stop"}), dialect="ollama-generate")
    assert (answer.text, answer.event_tokens, answer.finish_reason, answer.values) == ("abc", (1, 1, 1, 0), "stop", OLLAMA_VALUES)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_what_server_sent_events_allow(start: bytes, end: str) -> None:
    said = 'data: {"choices":\ndata: [{"delta": {"content":"ü"}}]}\n\n: ping\n\nevent: x\nid: 1\nretry: 3\ndata:{"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}\n\n\n\ndata: [DONE]'
    answer = read(start + said.replace("\n", end).encode())
    assert (answer.text, answer.event_tokens, answer.error) == ("üb", (1, 1), None)


def broken(*events: Any, **options: Any) -> tuple[str, str]:
    answer = read(sse(ROLE, chat("kept")), *events, **options)
    assert answer.error
    assert answer.text == "kept"
    assert answer.event_times[:2] == (1.0, 1.0)
    kind, _, what = answer.error.partition(": ")
    assert kind in ERROR_KINDS
    return kind, what


def test_a_broken_stream_is_an_error_of_its_kind_and_keeps_what_came_before() -> None:
    assert broken() == ("disconnected", "the stream ended without a finish reason")
    assert broken(error="timeout: no end within 2 s") == ("timeout", "no end within 2 s")
    assert broken(sse(chat(None, "length")), error="disconnected: gone") == ("disconnected", "gone")
    assert broken(sse({"error": {"message": "out\x1b[1m of\nmemory"}}), error="disconnected: gone") == (
        "server_error",
        "out of memory",
    )
    assert broken(sse({"error": "no"})) == ("server_error", "no")
    assert broken(sse({"object": "error", "message": "no"})) == ("server_error", "no")
    assert broken(b'error: {"code": 500}\n\n') == ("server_error", '{"code": 500}')
    assert broken(b'{"error": {"message": "bare"}}\n') == ("server_error", "bare")
    assert broken(sse(chat(None, "abort"), DONE)) == ("server_error", "the server gave up with the finish reason 'abort'")
    assert broken(b"<html>busy</html>") == ("bad_stream", "a line that is no server-sent event: <html>busy</html>")
    assert broken(sse(b'{"choices": [')) == ("bad_stream", 'an event that is no JSON object: {"choices": [')
    for event in (b"\xff", b"[" * 100_000, b"1", sse(chat("x"))[6:40], json.dumps(chat()).replace("null", '["x"]', 1).encode()):
        assert broken(sse(event))[0] == "bad_stream"


TORN = sse(chat("über"), ROLE, chat(None, "length"), DONE)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_cut_anywhere_is_the_transports_error_and_keeps_whole_events(end: bytes) -> None:
    start, rest = (part.replace(b"\n", end) for part in (sse(ROLE, chat("kept")), TORN))
    for cut in range(len(rest)):
        answer = read(start, rest[:cut], error="disconnected: gone")
        done = rest.index(b"[DONE]") + 6 <= cut
        assert (answer.error, answer.text[:4]) == (None if done else "disconnected: gone", "kept"), rest[:cut]
    torn = lines({"response": "kept"}), json.dumps({"response": "ü"}, ensure_ascii=False).encode()
    for cut in range(len(torn[1])):
        answer = read(torn[0], torn[1][:cut], dialect="ollama-generate", error="timeout: late")
        assert (answer.error, answer.text, answer.event_times) == ("timeout: late", "kept", (1.0,))


@pytest.mark.parametrize(
    "garbage", [b"<html>busy</html>", b"data: {no\n\n", b"data: no", b"Internal Server", b"data: {no\n\ndata: {", b"datum"]
)
def test_garbage_stays_garbage_also_before_a_cut(garbage: bytes) -> None:
    assert broken(garbage, error="disconnected: gone")[0] == "bad_stream"


def test_a_whole_body_that_is_no_stream() -> None:
    for body, kind in [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b": ping\n\n", "empty"),
        (sse(DONE), "empty"),
        (sse(ROLE, chat(None, "stop"), usage(1, 1), DONE), "empty"),
        (b"<!doctype html>\n<p>Welcome to nginx</p>\n", "bad_stream"),
        (b"Internal Server Error", "bad_stream"),
        (json.dumps({"choices": [{"message": {"content": "x"}}]}).encode(), "bad_stream"),
        (b'{"error": {"message": "no such model"}}', "server_error"),
        (json.dumps({"error": {"message": "no such model"}}, indent=2).encode(), "server_error"),
        (json.dumps({"choices": [{"message": {"content": "x"}}]}, indent=2).encode(), "bad_stream"),
    ]:
        answer = read(body)
        assert (answer.error or "").partition(":")[0] == kind, body
        assert answer.event_tokens == (0,) * len(answer.event_times)
    assert (read(b"<html>", dialect="ollama-chat").error or "").startswith("bad_stream: ")
    assert read(lines({"error": "model not found"}), dialect="ollama-generate").error == "server_error: model not found"
    assert (read(lines({"response": "a"}), dialect="ollama-generate").error or "").startswith("disconnected: ")


@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions", "ollama-chat", "ollama-generate"])
def test_an_error_on_several_lines_keeps_its_words(dialect: Dialect) -> None:
    body = json.dumps({"error": {"message": "no such model"}}, indent=2).encode()
    assert read(body[:9], body[9:], dialect=dialect).error == "server_error: no such model"
    whole = json.dumps({"choices": [{"message": {"content": "x"}}]}, indent=2).encode()
    assert read(whole, dialect="openai-chat").error == "bad_stream: an answer that is not streamed"


def test_an_error_that_is_null_is_none() -> None:
    said = lines({"response": "a", "error": None}, LAST | {"response": "", "error": None, "eval_count": 1})
    assert read(said, dialect="ollama-generate").error is None
    assert read(sse(chat("a", "length", error=None), usage(1, 1), DONE)).error is None


def test_a_refusal_is_not_read() -> None:
    assert read(b'{"error": "x"}', error="http_5xx: 503 busy") == Answer(error="http_5xx: 503 busy")


def test_after_the_protocols_own_end_nothing_is_missing() -> None:
    assert read(sse(chat("a", "stop"), DONE), error="timeout: no end within 2 s").error is None


def test_half_a_character_is_replaced() -> None:
    answer = read(sse(b'{"choices": [{"delta": {"content": "a\\ud83d"}, "finish_reason": "stop"}]}'))
    assert answer.text == "a\ufffd"


GOLDEN = Script(tokens=6, reasoning=2, pings=True, per_event=2, usage="each")
BODY = b"".join(write.data for write in writes_of(GOLDEN, chat=True))
OLLAMA = lines({"response": "grüße"}, {"response": " 🙂"}, LAST | {"response": ""})


@given(
    body=st.sampled_from([(BODY, "openai-chat"), (BODY.replace(b"\n", b"\r\n"), "openai-chat"), (OLLAMA, "ollama-generate")]),
    cuts=st.lists(st.integers(0, len(BODY)), max_size=40),
)
def test_however_the_bytes_come_the_answer_is_the_same_and_each_event_has_the_time_of_its_end(
    body: tuple[bytes, Dialect], cuts: list[int]
) -> None:
    data, dialect = body
    ends = [*sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    whole, answer = read(data, dialect=dialect), read(*parts, dialect=dialect)
    assert whole.error is None
    for name in (
        "event_tokens",
        "text",
        "reasoning",
        "prompt_tokens",
        "output_tokens",
        "finish_reason",
        "uneven",
        "error",
        "values",
    ):
        assert getattr(answer, name) == getattr(whole, name)
    gap = b"\n" if dialect == "ollama-generate" else b"\r\n\r\n" if b"\r" in data else b"\n\n"
    closed = [position for position in accumulate(len(part) + len(gap) for part in data.split(gap)[:-1])]
    with_data = [part.lstrip().startswith((b"data: {", b"{")) for part in data.split(gap)[:-1]]
    reads = list(accumulate(map(len, parts)))
    expected = [
        1.0 + next(n for n, end in enumerate(reads) if end >= position)
        for position, kept in zip(closed, with_data, strict=True)
        if kept
    ]
    assert list(answer.event_times) == expected


def test_an_event_is_complete_with_the_last_byte_of_its_end() -> None:
    bodies: list[tuple[Dialect, bytes]] = [
        ("ollama-generate", lines({"response": "a"}, LAST)),
        ("openai-chat", sse(chat("a"), chat("b", "stop"))),
    ]
    for dialect, data in bodies:
        end = data.index(b"\n" if dialect == "ollama-generate" else b"\n\n") + (1 if dialect == "ollama-generate" else 2)
        for cut in range(1, len(data)):
            answer = read(data[:cut], data[cut:], dialect=dialect)
            assert answer.event_times == (1.0 if cut >= end else 2.0, 2.0)


def test_the_golden_script_is_read_back() -> None:
    answer = read(BODY)
    assert (answer.reasoning, answer.text) == (token_text(0) + token_text(1), golden_text(GOLDEN))
    assert (answer.event_tokens, answer.output_tokens, answer.prompt_tokens) == ((0, 2, 2, 2, 0), 6, 7)


@given(
    texts=st.lists(st.text(st.sampled_from("ab 🙂"), max_size=5), max_size=12),
    total=st.one_of(st.none(), st.integers(1, 60)),
    data=st.data(),
)
def test_shares_add_up_to_the_total(texts: list[str], total: int | None, data: st.DataObject) -> None:
    counted = data.draw(st.lists(st.one_of(st.none(), st.integers(0, 60)), min_size=len(texts), max_size=len(texts)))
    stopped, hidden = data.draw(st.booleans()), data.draw(st.integers(0, 60))
    tokens, _ = event_tokens(texts, counted, total, stopped, data.draw(st.sampled_from([None, len, count_tokens])), hidden)
    full = [share for share, text in zip(tokens, texts, strict=True) if text]
    rises = {n for n, upto in enumerate(counted) if upto and upto > max((one or 0 for one in counted[:n]), default=0)}
    assert all(n in rises for n, (share, text) in enumerate(zip(tokens, texts, strict=True)) if share and not text)
    assert min(tokens, default=0) >= 0
    if full:
        assert (total or len(full)) - sum(tokens) in ((0, 1) if stopped and total else (0,))
        assert full[0] >= 1


def test_shares_follow_the_length_of_the_text() -> None:
    assert event_tokens(["aa", "", "aaaaaa"], [None] * 3, 4, False, None) == ((1, 0, 3), True)
    assert event_tokens(["a" * 100, "a", "a"], [None] * 3, 4, False, None) == ((2, 1, 1), True)
    assert event_tokens(["a", "a", "a"], [None] * 3, 2, False, None) == ((1, 0, 1), True)


def test_a_line_of_megabytes_in_many_reads() -> None:
    body = sse(chat("x" * 4_000_000, "length"), usage(1, 1), DONE)
    parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    answer = read(*parts)
    assert (len(answer.text), answer.error, answer.first_content) == (4_000_000, None, float(len(parts)))
