"""Traces in both forms, as documented; every mistake is found with its line."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trace import Trace, TraceChangedError, TraceEntry, read_trace, replayed
from results.cases import Load
from results.errors import UsageError
from tests.fakes import make_case, make_planned

DOCUMENTED = re.findall(r"^```jsonl\n(.*?)^```", (Path(__file__).parent.parent / "docs/traces.md").read_text(), re.M | re.S)


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def ours(at_s: float = 0, prompt_tokens: int = 10, **changes: object) -> dict[str, object]:
    return {"at_s": at_s, "prompt_tokens": prompt_tokens, "output_tokens": 5} | changes


def mooncake(timestamp: float = 0, input_length: int = 10, **changes: object) -> dict[str, object]:
    return {"timestamp": timestamp, "input_length": input_length, "output_length": 5, "hash_ids": []} | changes


@pytest.mark.parametrize("text", DOCUMENTED, ids=["ours", "mooncake"])
def test_the_documented_examples_are_one_trace(text: str, tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", text))
    assert trace == Trace(
        (
            TraceEntry(at_s=0, prompt_tokens=700, output_tokens=64, blocks=(1, 2)),
            TraceEntry(at_s=0.41, prompt_tokens=1100, output_tokens=32, blocks=(1, 3, 4)),
            TraceEntry(at_s=0.41, prompt_tokens=120, output_tokens=250),
        )
    )


def test_the_digest_is_of_what_matters(tmp_path: Path) -> None:
    first, second = (read_trace(written(tmp_path / f"{n}.jsonl", text)) for n, text in enumerate(DOCUMENTED))
    assert first.digest == second.digest
    assert first.digest.startswith("t1-")
    others = [
        [ours(0), ours(1)], [ours(0), ours(2)], [ours(0, 11), ours(1)], [ours(0, output_tokens=6), ours(1)],
        [ours(0, blocks=[1]), ours(1)], [ours(0)],
    ]  # fmt: skip
    assert len({read_trace(written(tmp_path / "o.jsonl", *lines)).digest for lines in others}) == len(others)


@given(st.lists(st.integers(0, 10**7), min_size=1).map(sorted), st.sampled_from([0.5, 1.0, 4.0]))
def test_milliseconds_and_seconds_are_one_trace_shifted_to_its_start(times: list[int], speed: float) -> None:
    with TemporaryDirectory() as folder:
        theirs = read_trace(written(Path(folder) / "m.jsonl", *(mooncake(ms) for ms in times)), speed=speed)
        mine = read_trace(written(Path(folder) / "o.jsonl", *(ours(ms / 1000) for ms in times)), speed=speed)
    assert theirs == mine
    assert theirs.digest == mine.digest
    assert [one.at_s for one in mine.entries] == pytest.approx([(ms - times[0]) / 1000 / speed for ms in times], abs=1e-9)
    assert mine.entries[0].at_s == 0


def test_a_part_is_the_first_requests_and_all_within_the_seconds(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", *(ours(at) for at in (0, 1, 2, 3))))
    sizes = {(n, s): len(trace.first(n, s).entries) for n, s in ((1, 0), (3, 0), (1, 2), (1, 2.5), (2, 1), (9, 9))}
    assert sizes == {(1, 0): 1, (3, 0): 3, (1, 2): 2, (1, 2.5): 3, (2, 1): 2, (9, 9): 4}
    assert trace.first(4, 0) == trace


def test_a_trace_that_changed_is_not_replayed(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", ours(0), ours(2), ours(4))
    part = read_trace(path, speed=2).first(2, 0.5)
    load = Load(arrivals="trace", trace=part.digest)
    planned = make_planned(make_case(load=load), iterations=2, min_seconds=0.5)
    assert replayed(path, planned, speed=2) == part
    written(path, ours(0), ours(2), ours(9))  # beyond what is replayed
    assert replayed(path, planned, speed=2) == part
    written(path, ours(0), ours(3), ours(4))
    with pytest.raises(TraceChangedError, match="put the trace back, or start a new run"):
        replayed(path, planned, speed=2)


def test_blank_lines_are_skipped_and_the_limit_counts_requests(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", ours(5), "", ours(6), "  ", ours(8), "what is not read is not judged")
    assert [one.at_s for one in read_trace(path, limit=3).entries] == [0, 1, 3]
    assert [one.at_s for one in read_trace(path, limit=2, speed=2).entries] == [0, 0.5]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([ours(), "{"], "line 2: not valid JSON: "),
        ([ours(), "[1]"], "line 2: expected an object"),
        ([ours(), "", ours(prompt_tokens=0)], "line 3: prompt_tokens: "),
        ([ours(at_s=-1)], "line 1: at_s: "),
        ([ours(at_s=float("nan"))], "line 1: at_s: "),
        ([{"at_s": 0, "prompt_tokens": 3}], "line 1: output_tokens: is missing."),
        ([ours(promt_tokens=1)], "line 1: promt_tokens: unknown key, did you mean 'prompt_tokens'?"),
        ([ours(3), ours(2)], "line 2: comes before the line above it: sort the lines by time."),
        ([ours(prompt_tokens=512, blocks=[1, 2])], "line 1: 2 block ids for 512 tokens: give one for each 512."),
        ([mooncake(), mooncake(hash_ids=["a"])], "line 2: hash_ids[0]: "),
        ([mooncake(input_length=513, hash_ids=[1, 2, 3])], "line 1: 3 block ids for 513 tokens: give"),
        ([mooncake(), ours()], "line 2: timestamp: is missing."),
        (["", ""], "holds no request: give one JSON object per line."),
    ],
)
def test_mistakes_are_named_with_their_line(lines: list[object], message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", *lines)
    with pytest.raises(UsageError) as caught:
        read_trace(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_trace(tmp_path / "missing.jsonl")
    (tmp_path / "t.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_trace(tmp_path / "t.jsonl")
    with pytest.raises(UsageError, match="greater than 0"):
        read_trace(tmp_path / "t.jsonl", speed=0)
