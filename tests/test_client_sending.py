"""What a client does in a phase, over a connection that answers as told: when requests go out, and what ends them."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from bench import client_sending
from bench.client_protocol import Item, Job, Phase, Sent, Stop
from bench.client_sending import Sending
from monitor.http import Exchange

pytestmark = pytest.mark.slow

JOB = Job("http://127.0.0.1:1/v1/completions", {}, "openai-completions", 10.0, retries=0, give_up_after=3)
GOOD = (
    b'data: {"choices":[{"index":0,"text":" hi","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    b"data: [DONE]\n\n"
)
BROKEN = b'data: {"error":{"message":"out of memory"}}\n\n'

Act = Callable[[bytes], Exchange]


class FakeClient:
    """Answers each request with what `act` says, after `takes_s`."""

    def __init__(self, act: Act, takes_s: float = 0.0) -> None:
        self._act, self._takes_s = act, takes_s
        self.asked: list[bytes] = []
        self.most_at_once = self._now = 0

    def render(self, body: bytes) -> bytes:
        return b"POST " + body

    async def exchange(self, request: bytes) -> Exchange:
        self.asked.append(request)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        sent = time.perf_counter()
        await asyncio.sleep(self._takes_s)
        self._now -= 1
        exchange = self._act(request)
        exchange.sent, exchange.ended = sent, time.perf_counter()
        return exchange


def answer(data: bytes = GOOD) -> Exchange:
    return Exchange(status=200, arrivals=[(time.perf_counter(), data)])


def fails(kind: str = "connect") -> Exchange:
    return Exchange(error=f"{kind}: refused")


def items(count: int, gap_s: float | None = None, turns: int = 1) -> tuple[Item, ...]:
    return tuple(Item(number, f"b{number}", None if gap_s is None else number * gap_s, turns) for number in range(count))


def sent_by(
    client: FakeClient,
    phase: Phase,
    job: Job = JOB,
    told: list[tuple[int, str]] | None = None,
    stop_after_s: float | None = None,
    cut_after_s: float | None = None,
) -> tuple[list[Sent], float]:
    async def next_turn(number: int, text: str) -> bytes | None:
        if told is not None:
            told.append((number, text))
        return f"b{number} after {text.strip()}".encode()

    async def run() -> tuple[list[Sent], float]:
        sending = Sending(client, job, phase, time.perf_counter, next_turn)  # type: ignore[arg-type]
        if stop_after_s is not None:
            asyncio.get_running_loop().call_later(stop_after_s, sending.stop, Stop("the server ended"))
        if cut_after_s is not None:
            asyncio.get_running_loop().call_later(cut_after_s, sending.stop, Stop("time was over", at_once=True))
        start = time.perf_counter() + 0.01
        await sending.run(start)
        assert sending.nothing_more.is_set()
        return sorted(sending.results(), key=lambda one: (one.number, one.turn)), start

    return asyncio.run(run())


def errors(sent: Sequence[Sent]) -> list[str]:
    return [(one.answer.error or "ok").partition(":")[0] for one in sent]


def test_an_open_loop_sends_each_request_at_its_time_and_never_before() -> None:
    client = FakeClient(lambda _: answer())
    sent, start = sent_by(client, Phase(items(20, 0.003)))
    assert [one.scheduled for one in sent] == [start + number * 0.003 for number in range(20)]
    assert all(one.sent >= one.scheduled for one in sent)
    assert client.asked == [b"POST b%d" % number for number in range(20)]
    assert errors(sent) == ["ok"] * 20
    assert [one.answer.output_tokens for one in sent] == [1] * 20


def test_an_open_loop_waits_for_no_answer() -> None:
    client = FakeClient(lambda _: answer(), takes_s=0.2)
    sent_by(client, Phase(items(10, 0.001)))
    assert client.most_at_once == 10


def test_what_is_late_is_sent_at_once_and_nothing_is_skipped() -> None:
    def slow(request: bytes) -> Exchange:
        if request == b"POST b0":
            time.sleep(0.05)  # the whole client stands still
        return answer()

    sent, _ = sent_by(FakeClient(slow), Phase(items(30, 0.001)))
    lags = [one.sent - one.scheduled for one in sent]
    assert errors(sent) == ["ok"] * 30
    assert max(lags[2:20]) > 0.02
    assert lags[2] > lags[12] > lags[20]


def test_a_closed_loop_has_so_many_runners_and_ends_at_its_number() -> None:
    client = FakeClient(lambda _: answer(), takes_s=0.002)
    sent, start = sent_by(client, Phase(items(50), (0.0, 0.0, 0.0), at_least=20))
    assert client.most_at_once == 3
    assert len(sent) == 20
    assert [one.scheduled for one in sent[:3]] == [start] * 3
    ends = {one.ended for one in sent}
    assert all(min(abs(one.scheduled - end) for end in ends) < 0.01 for one in sent[3:])


def test_a_closed_loop_goes_on_for_its_seconds_or_until_its_prompts_are_used_up() -> None:
    sent, start = sent_by(FakeClient(lambda _: answer(), takes_s=0.005), Phase(items(1000), (0.0,), at_least=1, min_seconds=0.1))
    assert 1 < len(sent) < 1000
    assert max(one.ended for one in sent) >= start + 0.1
    assert len(sent_by(FakeClient(lambda _: answer()), Phase(items(5), (0.0,), at_least=1, min_seconds=60.0))[0]) == 5


def test_runners_begin_on_the_ramp() -> None:
    sent, start = sent_by(FakeClient(lambda _: answer(), takes_s=0.2), Phase(items(3), (0.0, 0.03, 0.06), at_least=3))
    assert [one.scheduled - start for one in sent] == pytest.approx([0.0, 0.03, 0.06])
    assert all(one.sent >= one.scheduled for one in sent)


def test_after_so_many_failures_in_a_row_nothing_more_is_sent() -> None:
    client = FakeClient(lambda _: fails())
    sent, start = sent_by(client, Phase(items(10, 0.002)))
    assert errors(sent) == ["connect"] * 3 + ["unsent"] * 7
    assert sent[-1].scheduled == start + 9 * 0.002
    assert sent[-1].answer.error == "unsent: 3 requests in a row had failed"
    assert sent[-1].attempts == 0
    assert len(client.asked) == 3


def test_a_success_in_between_forgives_the_failures_before() -> None:
    client = FakeClient(lambda request: answer() if request == b"POST b2" else fails())
    sent, _ = sent_by(client, Phase(items(10), (0.0,), at_least=10))
    assert errors(sent) == ["connect"] * 2 + ["ok"] + ["connect"] * 3 + ["unsent"] * 4


def test_of_a_closed_loop_only_what_had_to_be_sent_counts_as_unsent() -> None:
    sent, _ = sent_by(FakeClient(lambda _: fails()), Phase(items(100), (0.0,), at_least=5, min_seconds=60.0))
    assert errors(sent) == ["connect"] * 3 + ["unsent"] * 2


def test_an_error_inside_a_stream_is_a_failure() -> None:
    sent, _ = sent_by(FakeClient(lambda _: answer(BROKEN)), Phase(items(4), (0.0,), at_least=4))
    assert errors(sent) == ["server_error"] * 3 + ["unsent"]


def test_a_text_about_errors_is_none() -> None:
    client = FakeClient(lambda _: answer(GOOD.replace(b" hi", b' \\"error\\": none')))
    assert errors(sent_by(client, Phase(items(4), (0.0,), at_least=4))[0]) == ["ok"] * 4


def test_retries_send_the_same_again_and_keep_the_schedule() -> None:
    left = {b"POST b0": 2}

    def act(request: bytes) -> Exchange:
        left[request] = left.get(request, 0) - 1
        return fails("http_5xx") if left[request] >= 0 else answer()

    client = FakeClient(act)
    (first, second), start = sent_by(client, Phase(items(2), (0.0,), at_least=2), Job(**(vars(JOB) | {"retries": 2})))
    assert client.asked == [b"POST b0"] * 3 + [b"POST b1"]
    assert (first.attempts, second.attempts) == (3, 1)
    assert errors([first, second]) == ["ok", "ok"]
    assert first.scheduled == start
    assert first.last_sent is not None
    assert first.last_sent - first.sent >= client_sending.RETRY_PAUSE_S * 3
    assert first.sent - start < client_sending.RETRY_PAUSE_S
    assert first.answer.first_content is not None
    assert first.answer.first_content > first.last_sent
    assert second.last_sent is None


def test_what_fails_to_the_last_try_keeps_its_error() -> None:
    client = FakeClient(lambda _: fails("timeout"))
    (one,), _ = sent_by(client, Phase(items(1), (0.0,), at_least=1), Job(**(vars(JOB) | {"retries": 1})))
    assert (one.answer.error, one.attempts) == ("timeout: refused", 2)


def test_a_stop_lets_what_is_in_flight_end() -> None:
    client = FakeClient(lambda _: answer(), takes_s=0.1)
    sent, _ = sent_by(client, Phase(items(3, 0.06)), stop_after_s=0.1)
    assert errors(sent) == ["ok", "ok", "unsent"]
    assert sent[2].answer.error == "unsent: the server ended"


@pytest.mark.parametrize("runners", [(), (0.0, 60.0)])
def test_a_cut_gives_up_what_is_in_flight(runners: tuple[float, ...]) -> None:
    client = FakeClient(lambda _: answer(), takes_s=60.0)
    phase = Phase(items(3, None if runners else 0.0), runners, at_least=3 if runners else 0)
    sent, _ = sent_by(client, phase, cut_after_s=0.1)
    assert errors(sent) == (["timeout", "unsent", "unsent"] if runners else ["timeout"] * 3)
    assert sent[0].answer.error == "timeout: time was over"


def test_a_cut_ends_a_pause_before_a_retry() -> None:
    client = FakeClient(lambda _: fails("http_5xx"))
    retrying = Job(**(vars(JOB) | {"retries": 10, "give_up_after": 99}))
    (one,), _ = sent_by(client, Phase(items(1, 0.0)), retrying, cut_after_s=0.15)
    assert (one.answer.error, one.attempts) == ("http_5xx: refused", len(client.asked))
    assert one.attempts <= 2


def test_a_retry_is_not_sent_after_a_stop() -> None:
    client = FakeClient(lambda _: fails("http_5xx"))
    sent_by(client, Phase(items(1, 0.0)), Job(**(vars(JOB) | {"retries": 10})), stop_after_s=0.05)
    assert len(client.asked) == 1


def test_turns_follow_one_another_with_the_answer_between() -> None:
    told: list[tuple[int, str]] = []
    client = FakeClient(lambda _: answer())
    sent, _ = sent_by(client, Phase(items(2, 0.0, turns=3)), told=told)
    assert [(one.number, one.turn) for one in sent] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert sorted(client.asked) == sorted([b"POST b0", b"POST b1", *[b"POST b0 after hi"] * 2, *[b"POST b1 after hi"] * 2])
    assert all(later.scheduled == earlier.ended for earlier, later in ((sent[0], sent[1]), (sent[1], sent[2])))
    assert sorted(told) == [(0, " hi"), (0, " hi"), (1, " hi"), (1, " hi")]


def test_a_conversation_ends_with_a_failed_turn_and_its_others_count() -> None:
    client = FakeClient(lambda request: answer() if request == b"POST b0" else fails())
    sent, _ = sent_by(client, Phase(items(1, 0.0, turns=4)))
    assert errors(sent) == ["ok", "connect", "unsent", "unsent"]
    assert [one.turn for one in sent] == [1, 2, 3, 4]


def test_conversations_never_begun_count_with_all_their_turns() -> None:
    sent, _ = sent_by(FakeClient(lambda _: fails()), Phase(items(5, 0.002, turns=2)))
    assert len(sent) == 10
    assert errors(sent).count("unsent") == 7


def test_answers_without_a_count_are_handed_on_as_they_came() -> None:
    bare = b'data: {"choices":[{"index":0,"text":" hi","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    (one,), _ = sent_by(FakeClient(lambda _: answer(bare)), Phase(items(1, 0.0)))
    assert [data for _, data in one.raw] == [bare]
    (one,), _ = sent_by(FakeClient(lambda _: answer()), Phase(items(1, 0.0)))
    assert one.raw == ()


def test_answers_beyond_the_budget_are_read_and_their_bytes_forgotten() -> None:
    huge = b": " + b"x" * (client_sending.RAW_BUDGET_BYTES // 2) + b"\n\n" + GOOD
    made: list[Exchange] = []

    def act(_: bytes) -> Exchange:
        assert sum(len(data) for one in made for _, data in one.arrivals) <= client_sending.RAW_BUDGET_BYTES
        made.append(answer(huge))
        return made[-1]

    sent, _ = sent_by(FakeClient(act), Phase(items(5), (0.0,), at_least=5))
    assert errors(sent) == ["ok"] * 5
    assert [one.reads for one in sent] == [1] * 5
    assert [one.arrivals for one in made] == [[]] * 5
