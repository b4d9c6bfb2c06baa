"""Prompts of a load have exactly the length, the share and the beginnings that were asked for, whatever the tokenizer."""

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.engines.codecs import FolderCodec, NoCodec
from bench.load_prompts import load_prompts_for, trace_prompts
from bench.trace import TraceEntry
from bench.workloads import Prompt, Prompts
from results.cases import PromptFormat
from results.errors import UsageError

pytestmark = pytest.mark.slow

PROSE = Prompts(
    name="prose",
    prompts=(
        "The harbour was quiet before sunrise, and the boats lay in two long rows along the old stone pier.",
        "A good bread needs flour, water, salt and patience; of these four, the last is the hardest to find.",
        "Why?",
    ),
)
MARK = "1.234"


class Tokenizer:
    """One id per special token or match of a pattern, after a beginning of sequence; counts how often it is asked."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.calls, self.pieces = re.compile(r"<\w+>|" + pattern, re.S), 0, ["<bos>"]
        self.ids = {"<bos>": 0}

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        self.calls += 1
        return [0, *map(self._id, self.pattern.findall(text if form == "plain" else f"<user>\n{text}<end>\n<model>\n"))]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[one] for one in ids if one)

    def _id(self, piece: str) -> int:
        if piece not in self.ids:
            self.ids[piece] = len(self.pieces)
            self.pieces.append(piece)
        return self.ids[piece]


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "characters": lambda: Tokenizer("."),
    "words": lambda: Tokenizer(r" ?[A-Za-z]+|\d| ?[^\sA-Za-z\d<]+|\s"),
    "short pieces": lambda: Tokenizer(r" ?[A-Za-z]{1,4}|\d{1,3}|."),
    "joining template": lambda: Tokenizer(r" ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]+|\s"),  # a full stop and what follows are one
}
any_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def common(one: Prompt, other: Prompt) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one.token_ids, other.token_ids, strict=False)))


def agree(made: Sequence[Prompt], tokenizer: Tokenizer) -> bool:
    return all(tuple(tokenizer.encode(one.text, one.form)) == one.token_ids for one in made)


@any_tokenizer
@given(
    tokens=st.integers(50, 400), count=st.integers(1, 25), first=st.integers(0, 2000), form=st.sampled_from(["plain", "chat"]),
    texts=st.lists(st.text("abc dé.\n", min_size=1).filter(str.strip), min_size=1, max_size=4),
)  # fmt: skip
def test_lengths_are_exact_and_beginnings_unique(
    name: str, tokens: int, count: int, first: int, form: PromptFormat, texts: list[str]
) -> None:
    tokenizer = TOKENIZERS[name]()
    prompts = Prompts(name="p", prompts=tuple(texts))
    made = load_prompts_for(
        prompts, count, mark=MARK, tokens=tokens, form=form, encode=tokenizer.encode, decode=tokenizer.decode, first=first
    )
    assert [len(one.token_ids) for one in made] == [tokens] * count
    assert agree(made, tokenizer)
    assert [one.index for one in made] == [(first + number) % len(texts) for number in range(count)]
    assert {one.form for one in made} == {form}
    head = 1 + 5 + len("2025.")  # beginning, template, and the digits that numbers have in common
    assert all(common(a, b) <= head for a, b in itertools.combinations(made, 2))


@any_tokenizer
@pytest.mark.parametrize("form", ["plain", "chat"])
def test_the_tokenizer_is_asked_about_once_per_prompt(name: str, form: PromptFormat) -> None:
    tokenizer = TOKENIZERS[name]()
    load_prompts_for(PROSE, 200, mark=MARK, tokens=128, form=form, encode=tokenizer.encode, decode=tokenizer.decode)
    assert tokenizer.calls < (2.5 if name == "joining template" else 1.2) * 200


def test_without_a_length_the_texts_go_out_whole() -> None:
    made = load_prompts_for(PROSE, 4, mark=MARK, tokens=None, form="chat", encode=NoCodec().encode, decode=NoCodec().decode)
    assert [one.text for one in made] == [f"{number + 1}.{MARK} {PROSE.prompts[number % 3]}" for number in range(4)]
    assert made[0].token_ids == ()


@any_tokenizer
def test_later_calls_and_other_marks_make_other_prompts(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    made = [
        one.text
        for mark, first in ((MARK, 0), (MARK, 10), ("2.234", 0))
        for one in load_prompts_for(
            PROSE, 10, mark=mark, tokens=60, form="plain", encode=tokenizer.encode, decode=tokenizer.decode, first=first
        )
    ]
    assert len(set(made)) == 30


@any_tokenizer
@given(
    rate=st.floats(0.01, 1), count=st.integers(1, 60), shared=st.integers(60, 120), form=st.sampled_from(["plain", "chat"]),
    seed=st.integers(0, 99), tokens=st.integers(180, 220),
)  # fmt: skip
def test_the_set_share_begins_with_the_same_tokens(
    name: str, rate: float, count: int, shared: int, form: PromptFormat, seed: int, tokens: int
) -> None:
    tokenizer = TOKENIZERS[name]()
    made = load_prompts_for(
        PROSE, count, mark=MARK, tokens=tokens, form=form, encode=tokenizer.encode, decode=tokenizer.decode,
        shared_prefix_tokens=shared, prefix_hit_rate=rate, seed=seed,
    )  # fmt: skip
    assert {len(one.token_ids) for one in made} == {tokens}
    assert agree(made, tokenizer)
    sharing = [one for one in made if "Shared" in one.text]
    assert abs(len(sharing) - rate * count) <= 1
    assert len({one.token_ids[:shared] for one in sharing}) <= 1
    assert all(common(a, b) <= shared + 1 for a, b in itertools.combinations(sharing, 2))  # one digit more
    rest = [one for one in made if one not in sharing]
    head = len(tokenizer.encode("", form))
    assert all(common(a, b) <= head for a in rest for b in sharing)
    assert len({one.text for one in made}) == count


def shares(seed: int, rate: float = 0.3) -> list[bool]:
    tokenizer = TOKENIZERS["words"]()
    made = load_prompts_for(
        PROSE, 100, mark=MARK, tokens=80, form="plain", encode=tokenizer.encode, decode=tokenizer.decode,
        shared_prefix_tokens=40, prefix_hit_rate=rate, seed=seed,
    )  # fmt: skip
    return ["Shared" in one.text for one in made]


def test_the_share_is_kept_in_every_ten_and_falls_by_seed() -> None:
    assert [sum(shares(1)[begin : begin + 10]) for begin in range(0, 100, 10)] == [3] * 10
    assert shares(1) == shares(1) != shares(2)
    assert all(shares(1, rate=1.0))
    assert not any(shares(1, rate=0.0))


def test_the_shared_prefix_is_the_same_in_later_calls() -> None:
    tokenizer = TOKENIZERS["words"]()
    first, later = (
        load_prompts_for(
            PROSE, 5, mark=MARK, tokens=80, form="plain", encode=tokenizer.encode, decode=tokenizer.decode,
            shared_prefix_tokens=40, prefix_hit_rate=1, first=number,
        )
        for number in (0, 5)
    )  # fmt: skip
    assert common(first[0], later[0]) == 40


def test_short_plain_prompts_are_cut_inside_their_mark() -> None:
    tokenizer = TOKENIZERS["words"]()
    made = load_prompts_for(PROSE, 9, mark=MARK, tokens=3, form="plain", encode=tokenizer.encode, decode=tokenizer.decode)
    assert [one.text for one in made] == [f"{number}." for number in range(1, 10)]


@pytest.mark.parametrize(
    ("count", "tokens", "form", "prefix", "message"),
    [
        (12, 2, "plain", None, "12 prompts of 2 tokens cannot all differ"),
        (1, 10, "chat", None, "no prompt of exactly 10 tokens"),
        (1, 50, "plain", 45, "no prompt of exactly 50 tokens"),
        (1, 100, "plain", 5, "shared_prefix_tokens: no beginning of 5 tokens can be made: choose more than 12"),
    ],
)
def test_lengths_that_cannot_be_met_are_refused(
    count: int, tokens: int, form: PromptFormat, prefix: int | None, message: str
) -> None:
    tokenizer = TOKENIZERS["words"]()
    with pytest.raises(UsageError, match=message):
        load_prompts_for(
            PROSE, count, mark=MARK, tokens=tokens, form=form, encode=tokenizer.encode, decode=tokenizer.decode,
            shared_prefix_tokens=prefix, prefix_hit_rate=1.0,
        )  # fmt: skip


def test_exact_lengths_need_a_tokenizer() -> None:
    with pytest.raises(UsageError, match="nothing here can tokenize"):
        load_prompts_for(PROSE, 1, mark=MARK, tokens=20, form="plain", encode=NoCodec().encode, decode=NoCodec().decode)


def entry(prompt_tokens: int, *blocks: int) -> TraceEntry:
    return TraceEntry(at_s=0, prompt_tokens=prompt_tokens, output_tokens=1, blocks=blocks)


def replay(entries: Sequence[TraceEntry], tokenizer: Tokenizer) -> list[Prompt]:
    return trace_prompts(entries, PROSE, mark=MARK, encode=tokenizer.encode, decode=tokenizer.decode)


@st.composite
def entries(draw: st.DrawFn) -> TraceEntry:
    tokens = draw(st.integers(1, 2000))
    return entry(tokens, *draw(st.lists(st.integers(0, 4), max_size=-(-tokens // 512))))


@any_tokenizer
@given(st.lists(entries(), max_size=6))
def test_trace_prompts_have_each_entrys_length_and_equal_blocks_where_ids_are_equal(name: str, made_of: list[TraceEntry]) -> None:
    made = replay(made_of, TOKENIZERS[name]())
    assert [len(one.token_ids) for one in made] == [one.prompt_tokens for one in made_of]
    windows: dict[tuple[int, int], tuple[int, ...]] = {}
    for prompt, one in zip(made, made_of, strict=True):
        assert prompt.token_ids[0] == 0
        for position, block in enumerate(one.blocks):
            window = prompt.token_ids[512 * position : 512 * (position + 1)]
            known = windows.setdefault((block, position), window)
            assert window[: len(known)] == known[: len(window)]
    for (block, position), window in windows.items():  # others differ within the smallest blocks that servers cache
        for (other, there), theirs in windows.items():
            assert block == other or position != there or len(window) < 32 or len(theirs) < 32 or window[:16] != theirs[:16]


@any_tokenizer
def test_what_no_block_covers_is_unique(name: str) -> None:
    made = replay([entry(600, 1), entry(600, 1), entry(600), entry(600)], TOKENIZERS[name]())
    assert 512 <= common(made[0], made[1]) <= 514
    assert all(common(a, b) <= 2 for a, b in itertools.combinations(made[1:], 2))


@any_tokenizer
def test_texts_of_traces_encode_to_their_ids(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    made = replay([entry(1500, 1, 2), entry(1100, 1, 2, 3), entry(40)], tokenizer)
    assert agree(made, tokenizer)


def test_blocks_are_made_once() -> None:
    tokenizer = TOKENIZERS["words"]()
    replay([entry(1024, 1, 2)] * 50, tokenizer)
    assert tokenizer.calls < 18


def test_with_a_real_tokenizer(tiny_gemma_chat: Path) -> None:
    codec = FolderCodec(tiny_gemma_chat)
    made = [
        one
        for form in get_args(PromptFormat)
        for one in load_prompts_for(
            PROSE, 10, mark=MARK, tokens=150, form=form, encode=codec.encode, decode=codec.decode,
            shared_prefix_tokens=80, prefix_hit_rate=0.5,
        )
    ]  # fmt: skip
    made += trace_prompts([entry(600, 1, 2), entry(700, 1)], PROSE, mark=MARK, encode=codec.encode, decode=codec.decode)
    assert [len(one.token_ids) for one in made] == [150] * 20 + [600, 700]
    assert all(tuple(codec.encode(one.text, one.form)) == one.token_ids for one in made)
    assert 512 <= common(made[-1], made[-2]) <= 514
