"""Servers that somebody else started: how a suite names them, what leads to them, and what may be stored of it.

A URL can carry secrets and inner names, so records hold a server's name and its URL's hash, never the URL.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from bench.engines.protocol import Server
from results.errors import UsageError
from results.validation import nearest

HASHED = "sha256:"


class ServerSpec(BaseModel):
    """A server as a suite describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str | None = Field(
        None, min_length=1, description="Base URL, such as http://127.0.0.1:8000/v1; the preset's unless given."
    )
    preset: str = Field("openai", description="What kind of server it is, for its quirks: see the page on servers.")
    api_key_env: str | None = Field(None, description="The environment variable that holds the key; never the key itself.")
    tokenizer: str | None = Field(None, description="A folder with the model's tokenizer, for prompts of exact length.")


def presets() -> dict[str, str | None]:
    """Names of the presets with their base URLs."""
    from bench.engines.ollama import DEFAULT_URL
    from bench.engines.openai import PRESETS

    return {name: preset.url for name, preset in PRESETS.items()} | {"ollama": DEFAULT_URL}


def is_url(text: str) -> bool:
    return "://" in text


def url_name(url: str) -> str:
    """The name of a server that was given by its URL alone."""
    return "url-" + _digest(url)[:8]


def hashed(url: str) -> str:
    return url if url.startswith(HASHED) else HASHED + _digest(url)


def _digest(url: str) -> str:
    return hashlib.sha256(url.strip().rstrip("/").encode()).hexdigest()


def named(reference: str, specs: Mapping[str, ServerSpec]) -> str:
    """The name of what a suite means by `server`: a name of its own, a preset's, or that of a URL.

    Raises:
        UsageError: it is none of them.
    """
    if is_url(reference):
        return url_name(reference)
    if reference in specs or reference in presets():
        return reference
    raise UsageError(
        f"There is no server {reference!r}{nearest(reference, [*specs, *presets()])} Name one of `servers`, a preset or a URL."
    )


def with_urls(specs: Mapping[str, ServerSpec], given: Mapping[str, str]) -> dict[str, ServerSpec]:
    """The servers of a suite with the URLs that the command line gives them.

    Raises:
        UsageError: a name is neither the suite's nor a preset's.
    """
    found = dict(specs)
    for name, url in given.items():
        spec = specs.get(name) or ServerSpec(preset=named(name, specs))
        found[name] = spec.model_copy(update={"url": url})
    return found


def find_server(name: str, specs: Mapping[str, ServerSpec], given: Mapping[str, str]) -> Server:
    """A server by its name, with the URL that was given on the command line before that of the suite or the preset.

    Args:
        given: name → URL.

    Raises:
        UsageError: the URL is missing, malformed, or another than the stored hash says.
    """
    known = presets()
    spec = specs.get(name) or ServerSpec(preset=name if name in known else "openai")
    if spec.preset not in known:
        raise UsageError(f"servers.{name}.preset: there is no {spec.preset!r}{nearest(spec.preset, known)}")
    url = given.get(name) or spec.url or known[spec.preset]
    if url is None:
        raise UsageError(f"servers.{name}: has no URL: give one with url, or with --server {name}=URL.")
    if url.startswith(HASHED):
        raise UsageError(f"The URL of server {name} is not stored: give it again with --server {name}=URL.")
    if spec.url and spec.url.startswith(HASHED) and hashed(url) != spec.url:
        raise UsageError(f"--server {name}: is not the URL that the run began with: give that one, or start a new run.")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(f"The URL of server {name} is not http:// or https:// with a host: correct it.")
    if re.search(r"[?#\s]", url) or not url.isprintable():
        raise UsageError(f"The URL of server {name} has more than scheme, host, port and path: leave out what is after the path.")
    if parts.username is not None:
        raise UsageError(
            f"The URL of server {name} holds a user name or password: name the variable with the key as api_key_env."
        )
    return Server(name, url.rstrip("/"), spec.preset, spec.api_key_env, spec.tokenizer)


def parse_given(options: Iterable[str]) -> dict[str, str]:
    """`NAME=URL` options by name.

    Raises:
        UsageError: one is not of this form.
    """
    found = {}
    for option in options:
        name, sign, url = option.partition("=")
        if not sign or not name or not is_url(url):
            raise UsageError("--server: write NAME=URL, for example --server staging=http://127.0.0.1:8000/v1.")
        if name in found:
            raise UsageError(f"--server {name}: is given twice: leave one of the two out.")
        found[name] = url
    return found


def scrubbed(source: dict[str, Any]) -> dict[str, Any]:
    """A suite's source with the hash of each URL in its place."""
    servers = {
        name: spec | ({"url": hashed(spec["url"])} if spec.get("url") else {}) for name, spec in source.get("servers", {}).items()
    }
    return source | ({"servers": servers} if servers else {})


def scrubbed_argument(argument: str) -> str:
    """A word of a command line with the name of a URL in its place."""
    found = re.search(r"[A-Za-z][A-Za-z0-9+.-]*://.*", argument, re.DOTALL)
    if not found:
        return argument
    address = re.sub(r"://.*@", "://", found.group(), flags=re.DOTALL).partition("?")[
        0
    ]  # a weak password could be guessed from the hash
    return argument[: found.start()] + url_name(address)
