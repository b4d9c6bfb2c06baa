"""Takes the secrets that we sent out of what a server says: some repeat the key that they refuse."""

import json
from collections.abc import Mapping
from dataclasses import replace

from monitor.stream import Answer

PUBLIC_HEADERS = frozenset({"accept", "content-type", "user-agent"})
MIN_SECRET = 6
"""Shorter words are no secrets, and would be found in any text."""


def without_secrets(text: str, headers: Mapping[str, str]) -> str:
    """A text without the values of our headers, plain or as JSON writes them, whole or word by word."""
    for secret in _secrets(headers):
        text = text.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
    return text


def answer_without_secrets(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """The same answer, with nothing of our headers in its words."""
    return replace(
        answer,
        text=without_secrets(answer.text, headers),
        reasoning=without_secrets(answer.reasoning, headers),
        error=None if answer.error is None else without_secrets(answer.error, headers),
    )


def _secrets(headers: Mapping[str, str]) -> list[str]:
    """The longest first, so that none is left because a part of it was taken out before."""
    found = set()
    for name, value in headers.items():
        if name.lower() not in PUBLIC_HEADERS:
            words = value.split()
            found |= {value.strip(), *(words[1:] if len(words) > 1 else words)}  # a first word such as `Bearer` is none
    return sorted((one for one in found if len(one) >= MIN_SECRET), key=len, reverse=True)
