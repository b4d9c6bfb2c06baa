"""What a server repeats of our headers is hidden, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.secrets import answer_without_secrets, without_secrets
from monitor.stream import Answer


def test_only_what_may_be_a_secret_is_hidden() -> None:
    headers = {"Authorization": "Bearer sk-123", "X-Key": "abc", "Content-Type": "application/json", "User-Agent": "gemmeter/1"}
    assert without_secrets("Bearer sk-123 abc application/json gemmeter/1", headers) == "*** abc application/json gemmeter/1"
    assert without_secrets("key sk-123, Bearer", headers) == "key ***, Bearer"


@pytest.mark.parametrize("key", ["abcdef", 'ab"cd\\ef', "a.long.one-0123456789"])
def test_a_key_is_found_plain_and_as_json_writes_it(key: str) -> None:
    headers = {"X-API-Key": key}
    assert without_secrets(f"wrong key {key}!", headers) == "wrong key ***!"
    told = without_secrets(json.dumps({"message": f"wrong key {key}!"}), headers)
    assert json.loads(told) == {"message": "wrong key ***!"}


def test_a_key_that_holds_another_is_hidden_whole() -> None:
    assert without_secrets("secret-and-more", {"A": "secret", "B": "secret-and-more"}) == "***"


@given(st.text(), st.text('abc"\\ ', min_size=6))
def test_an_answer_has_no_key_in_its_words(text: str, key: str) -> None:
    key = "k" + key.replace(" ", "-")
    answer = Answer(text=text + key, reasoning=key + text, error=f"server_error: {key}", output_tokens=3)
    found = answer_without_secrets(answer, {"Authorization": f"Bearer {key}"})
    assert key not in found.text + found.reasoning + (found.error or "")
    assert found.output_tokens == 3
    assert answer_without_secrets(Answer(text=text), {}) == Answer(text=text)
