"""Every tool's figures of one request, worked out by hand from the definitions; what cannot be known has a reason."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.definitions import FIGURES, TOOLS, Row, definitions_of
from results.metrics import request_values
from results.records import Request

AT = datetime(2026, 3, 1, tzinfo=UTC)
SERVER = {"server_prefill_s": 1.5, "server_decode_s": 1.2, "server_total_s": 3.0}


def make(times: tuple[float, ...], tokens: tuple[int, ...], **changes: object) -> Request:
    fields: dict[str, object] = {
        "request_id": "q1", "index": 0, "prompt_index": 0, "sent_at": AT, "scheduled_s": 9.0, "sent_s": 10.0,
        "event_times_s": times, "event_tokens": tokens, "token_source": "usage", "output_tokens": sum(tokens),
        "first_content_s": next((time for time, count in zip(times, tokens, strict=True) if count), None),
        "last_content_s": next((time for time, count in zip(times[::-1], tokens[::-1], strict=True) if count), None),
    }  # fmt: skip
    return Request(**(fields | changes))


# role chunk, a token, two tokens, a token, finish chunk, usage chunk; a connection opened a quarter second before it was sent
STREAM = make((10.5, 12.0, 12.5, 13.5, 14.0, 14.25), (0, 1, 2, 1, 0, 0), values={"connect_s": 0.25} | SERVER)


def values(request: Request, tool: str) -> list[float | None]:
    return [row.value for row in definitions_of(request) if row.tool == tool]


def row(request: Request, tool: str, figure: str) -> Row:
    return next(row for row in definitions_of(request) if (row.tool, row.figure) == (tool, figure))


@pytest.mark.parametrize(
    ("tool", "ttft", "tpot", "itl", "e2e", "tokens", "rate"),
    [
        ("Gemmeter", 12 - 10, 1.5 / 3, (0.5 + 1) / 2, 13.5 - 10, 4, 3 / 1.5),
        ("vLLM bench serve", 10.5 - 9.75, (14 - 10.5) / 3, (1.5 + 0.5 + 1 + 0.5) / 4, 14 - 9.75, 4, None),
        ("SGLang bench_serving", 12 - 9.75, (14.25 - 12) / 3, (0.5 + 1) / 2, 14.25 - 9.75, 4, None),
        ("GuideLLM", 12 - 9.75, (13.5 - 9.75) / 4, (13.5 - 12) / 3, 14.25 - 9.75, 4, 4 / 4.5),
        ("AIPerf", 12 - 9.75, None, (13.5 - 12) / 3, 13.5 - 9.75, 4, 3 / 1.5),
        ("genai-perf", 12 - 9.75, None, (13.5 - 12) / 3, 13.5 - 9.75, 4, 3 / 1.5),
        ("inference-perf", 12 - 9.75, 1.5 / 3, (0.5 + 0 + 1) / 3, 14.25 - 9.75, 4, None),
        ("llmperf", 12 - 9.75, None, None, 14.25 - 9.75, None, None),
        ("llama.cpp server", 1.5, 1.2 / 3, None, 1.5 + 1.2, 4, 3 / 1.2),
        ("llama-bench", None, None, None, None, None, None),
        ("Ollama", None, None, None, 3.0, 4, 4 / 1.2),
        ("TGI", None, (1.5 + 1.2) / 4, None, 3.0, 4, None),
        ("OpenTelemetry client", 10.5 - 9.75, None, (1.5 + 0.5 + 1 + 0.5 + 0.25) / 5, 14.25 - 9.75, 4, None),
        ("OpenTelemetry server", 3.0 - 1.2, 1.2 / 3, None, 3.0, None, None),
    ],
)
def test_by_hand(tool: str, ttft: float, tpot: float, itl: float, e2e: float, tokens: float, rate: float) -> None:
    wanted = [None if value is None else pytest.approx(value, rel=1e-12) for value in (ttft, tpot, itl, e2e, tokens, rate)]
    assert values(STREAM, tool) == wanted


def test_every_tool_is_tried_by_hand() -> None:
    (marker,) = test_by_hand.pytestmark  # type: ignore[attr-defined]
    assert [case[0] for case in marker.args[1]] == [tool.name for tool in TOOLS]
    assert len(definitions_of(STREAM)) == len(TOOLS) * len(FIGURES)


def test_a_role_chunk_at_once_moves_the_wait_from_ttft_to_tpot() -> None:
    late, early = (make((role, 18.0, 18.5, 19.0), (0, 1, 1, 1)) for role in (18.0, 10.125))
    assert row(early, "vLLM bench serve", "ttft_s").value == 0.125
    assert row(early, "vLLM bench serve", "tpot_s").value == (19 - 10.125) / 2
    assert row(late, "vLLM bench serve", "tpot_s").value == 0.5
    assert row(early, "Gemmeter", "ttft_s").value == row(late, "Gemmeter", "ttft_s").value == 8.0


def test_thoughts_are_tokens_for_some() -> None:
    """A role chunk, two thoughts, two visible tokens."""
    request = make((11.0, 12.0, 13.0, 15.0, 16.0), (0, 1, 1, 1, 1), first_content_s=15.0)
    ttft = {row.tool: row.value for row in definitions_of(request) if row.figure == "ttft_s" and row.value is not None}
    assert ttft == {
        "Gemmeter": 5.0, "vLLM bench serve": 1.0, "SGLang bench_serving": 2.0, "GuideLLM": 2.0, "AIPerf": 2.0,
        "genai-perf": 5.0, "inference-perf": 5.0, "llmperf": 5.0, "OpenTelemetry client": 1.0,
    }  # fmt: skip
    assert values(request, "AIPerf")[2:5] == [pytest.approx(4 / 3), 6.0, 4]
    assert values(request, "genai-perf")[2:5] == [1.0, 6.0, 2]
    assert values(request, "inference-perf")[1:5] == [1.0, 1.0, 6.0, 2]


def test_the_last_empty_chunk_is_the_usage_only_where_that_was_sent() -> None:
    with_usage = make((11.0, 12.0, 13.0), (1, 1, 0))
    assert row(with_usage, "vLLM bench serve", "e2e_s").value == 2.0
    without = with_usage.model_copy(update={"token_source": "tokenizer"})
    assert row(without, "vLLM bench serve", "e2e_s").value == 3.0


def test_a_server_that_says_nothing_of_itself() -> None:
    silent = STREAM.model_copy(update={"values": {}})
    assert row(silent, "Ollama", "decode_tps").reason == "The server gave no such times of its own."
    assert values(silent, "llama.cpp server") == [None, None, None, None, 4, None]
    assert row(silent, "GuideLLM", "ttft_s").value == 2.0


def test_uncounted_tokens_leave_the_latencies() -> None:
    uncounted = STREAM.model_copy(update={"output_tokens": None, "token_source": None})
    assert values(uncounted, "GuideLLM") == [2.25, None, None, 4.5, None, None]
    assert row(uncounted, "GuideLLM", "tpot_s").reason == "The output's tokens were not counted."


def test_one_token_has_no_time_per_token() -> None:
    single = make((11.0,), (1,))
    assert values(single, "vLLM bench serve") == [1.0, None, None, 1.0, 1, None]
    assert values(single, "inference-perf")[:3] == [None, None, None]
    assert row(single, "AIPerf", "itl_s").reason == "It takes two tokens."
    assert row(single, "GuideLLM", "tpot_s").value == 1.0


def test_failed_requests_are_left_out_by_all_but_those_that_do_not_notice() -> None:
    cut = STREAM.model_copy(update={"error": "disconnected: the server closed the connection"})
    assert {row.value for row in definitions_of(cut)} == {None}
    assert row(cut, "Gemmeter", "ttft_s").reason == "The request failed (disconnected)."
    inside = STREAM.model_copy(update={"error": "server_error: out of memory"})
    assert {row.tool for row in definitions_of(inside) if row.value is not None} == {"vLLM bench serve", "SGLang bench_serving"}
    odd = STREAM.model_copy(update={"error": "\x1b[31mKABOOM"})
    assert row(odd, "GuideLLM", "ttft_s").reason == "The request failed (error)."


def test_an_empty_answer_has_a_ttft_of_zero_at_sglang() -> None:
    empty = make((11.0, 12.0), (0, 0), error="empty: no content in 200 bytes", output_tokens=None, token_source=None)
    assert row(empty, "SGLang bench_serving", "ttft_s").value == 0.0
    assert row(empty, "vLLM bench serve", "ttft_s").value == 1.0
    assert row(empty.model_copy(update={"event_times_s": (), "event_tokens": ()}), "vLLM bench serve", "ttft_s").value is None


@st.composite
def requests(draw: st.DrawFn) -> Request:
    gaps = draw(st.lists(st.floats(0, 10, allow_subnormal=False), max_size=12))
    times = tuple(10.0 + sum(gaps[: k + 1]) for k in range(len(gaps)))
    tokens = tuple(draw(st.lists(st.integers(0, 3), min_size=len(times), max_size=len(times))))
    changes: dict[str, object] = {
        "output_tokens": draw(st.none() | st.integers(0, 40)),
        "token_source": draw(st.sampled_from([None, "engine", "usage", "tokenizer"])),
        "error": draw(st.sampled_from([None, None, "timeout: too late", "server_error: no", "empty: nothing"])),
        "values": draw(st.dictionaries(st.sampled_from(["connect_s", *SERVER]), st.floats(0, 5, allow_subnormal=False))),
    }
    if draw(st.booleans()):
        visible = [time for time, count in zip(times, tokens, strict=True) if count][draw(st.integers(0, 4)) :]
        changes |= {"first_content_s": visible[0] if visible else None, "last_content_s": visible[-1] if visible else None}
    return make(times, tokens, **changes)


@given(requests())
def test_our_own_row_is_what_the_metrics_say(request: Request) -> None:
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "decode_tps"):
        found = request_values(name, request)
        assert row(request, "Gemmeter", name).value == (sum(found) / len(found) if found else None)


@given(requests())
def test_each_figure_has_a_value_or_a_reason(request: Request) -> None:
    for one in definitions_of(request):
        assert (one.value is None) == bool(one.reason)
        assert one.reason == "" or one.reason.endswith(".")
        assert one.value is None or one.value >= 0 or one.tool == "OpenTelemetry server"
