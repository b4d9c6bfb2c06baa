"""What is kept of prompts and outputs: all of it, a keyed hash, or nothing."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from results.records import ContentPolicy


def keeper(policy: ContentPolicy, key_file: Path) -> Callable[[str], str | None]:
    """Text → what is stored of it under this policy.

    `hash` is HMAC-SHA-256 with this user's own key, made at the first use: equal texts can be told, but not guessed by others.
    """
    if policy == "full":
        return lambda text: text
    if policy == "hash":
        key = _key(key_file)
        return lambda text: "hmac-sha256:" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return lambda _: None


def _key(file: Path) -> bytes:
    try:
        return bytes.fromhex(file.read_text())
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        key = secrets.token_bytes(32)
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(key.hex())
        except FileExistsError:
            return bytes.fromhex(file.read_text())
        return key
