"""Any OpenAI-compatible server by URL: chat and plain completions. The timed exchanges are those of `bench.engines.served`."""

import json
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal
from urllib.parse import urlsplit

from bench.engines.codecs import FolderCodec, LlamaServerCodec, NoCodec, VllmCodec
from bench.engines.presets import PRESETS, Preset
from bench.engines.protocol import Server, Source, Support, UnsupportedError
from bench.engines.served import Codec, HttpSession
from bench.engines.server_calls import NO_ENDPOINT, ServerCalls, ServerError
from bench.workloads import Prompt
from monitor.http import Endpoint
from monitor.stream import Dialect
from results.cases import Case, PromptFormat, Sampling
from results.errors import UsageError
from results.record import Scalar
from results.validation import nearest

__all__ = ["PRESETS", "OpenAI", "OpenAIWire", "Preset"]

VERSION_PATHS = (("/version", "version"), ("/props", "build_info"), ("/get_server_info", "version"), ("/info", "version"))
"""Where vLLM, llama.cpp, SGLang and TGI tell their version, and under which name."""
VERSION_TIMEOUT_S = 5.0
LOG_PROBABILITIES: dict[PromptFormat, dict[str, Any]] = {"plain": {"logprobs": 1}, "chat": {"logprobs": True, "top_logprobs": 1}}
"""What asks for them. One alternative beside each token, as llama.cpp takes 0 for no, and tells 20 unless a number is given."""


class OpenAIWire:
    """How requests to one model of one server look.

    Args:
        headers: of every request, the key among them.
        prompt_cache: whether the server may reuse what it computed for an earlier prompt, where that can be switched.
        log_probabilities: whether to ask for those of the chosen tokens.
    """

    def __init__(
        self, base_url: str, model: str, preset: Preset, headers: Mapping[str, str] | None = None, *, prompt_cache: bool = False,
        log_probabilities: bool = False,
    ) -> None:  # fmt: skip
        self._log_probabilities = log_probabilities
        self._drawn: dict[str, Any] = {}
        self._base_url, self._preset, self._headers = base_url.rstrip("/"), preset, dict(headers or {})
        self._always: dict[str, Any] = {"model": preset.sent_model or model, "stream": True, **preset.extra}
        if preset.temperature:
            self._always["temperature"] = 0
        if preset.usage:
            self._always["stream_options"] = {"include_usage": True}
            if preset.running_usage:
                self._always["stream_options"]["continuous_usage_stats"] = True
        if preset.cache_field:
            self._always[preset.cache_field] = prompt_cache

    def endpoint(self, form: PromptFormat) -> Endpoint:
        """Where prompts of this form go.

        Raises:
            UnsupportedError: the server has no plain completions, or no log-probabilities in the answers to such prompts.
        """
        if form == "plain" and self._preset.chat_only:
            raise UnsupportedError("the server has no plain completions: set workload.prompt_format to chat.")
        if self._log_probabilities and form not in (able := self._preset.log_probabilities):
            other = f"set workload.prompt_format to {able[0]}, or " if able else ""
            raise UnsupportedError(f"the server tells no log-probabilities here: {other}leave log_probabilities out.")
        return Endpoint(f"{self._base_url}/{'chat/' if form == 'chat' else ''}completions", self._headers)

    def begin(self, case: Case) -> None:
        """Requests from now on draw their tokens as the case says.

        Raises:
            UnsupportedError: the server has no word for that.
        """
        self._drawn = drawn(self._preset, case.sampling)

    def dialect(self, form: PromptFormat) -> Dialect:
        return "openai-chat" if form == "chat" else "openai-completions"

    def body(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], history: Sequence[str] = ()) -> bytes:
        """One request; where the server cannot ignore the end of sequence, `length` is only the most that it may answer."""
        fields: dict[str, Any]
        if prompt.form == "chat":
            fields = {"messages": chat_messages(prompt.text, history), self._preset.length_field: output_tokens}
        else:
            as_ids = self._preset.token_ids and prompt.token_ids and not history
            fields = {"prompt": prompt.token_ids if as_ids else plain_text(prompt.text, history), "max_tokens": output_tokens}
        if stop == "length" and self._preset.ignore_eos:
            fields["ignore_eos"] = True
        if self._log_probabilities:
            fields |= LOG_PROBABILITIES[prompt.form]
        return json.dumps(self._always | self._drawn | fields, ensure_ascii=False, separators=(",", ":")).encode()


def drawn(preset: Preset, sampling: Sampling | None) -> dict[str, Any]:
    """What a request says of how tokens are drawn, beside what all requests to such a server say.

    Raises:
        UnsupportedError: the server has no word for it.
    """
    if sampling is None:
        return {}
    if not preset.temperature:
        raise UnsupportedError("the server samples as it likes: leave temperature and the rest of sampling out.")
    if sampling.top_k and preset.all_tokens is None:
        raise UnsupportedError("requests to this kind of server have no top_k: leave it out.")
    if sampling.repetition_penalty != 1 and preset.repetition_penalty is None:
        raise UnsupportedError("requests to this kind of server have no repetition penalty: set repetition_penalty to 1.")
    fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, **preset.sampling}
    if preset.seed:
        fields["seed"] = sampling.seed
    if preset.all_tokens is not None:
        fields["top_k"] = sampling.top_k or preset.all_tokens
    if preset.repetition_penalty:
        fields[preset.repetition_penalty] = sampling.repetition_penalty
    return fields


def chat_messages(text: str, history: Sequence[str]) -> list[dict[str, str]]:
    """User and assistant in turn, the user last."""
    return [{"role": "assistant" if n % 2 else "user", "content": one} for n, one in enumerate([*history, text])]


def plain_text(text: str, history: Sequence[str]) -> str:
    """Each answer right after its prompt, the next prompt on a new line: what came before stays a beginning of the whole."""
    turns = [prompt + answer + "\n" for prompt, answer in zip(history[::2], history[1::2], strict=True)]
    return "".join(turns) + text


class OpenAI:
    support = Support(
        weights="served",
        packages=(),
        extra=None,
        devices=("remote",),
        quantizations=("as served",),
        log_probabilities=True,
        token_counts="usage",
        switches=frozenset({"sampling", "prompt_cache"}),
        concurrent=True,
    )

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ

    def refuse(self, case: Case) -> str | None:
        return None

    @staticmethod
    def facts(source: Source) -> dict[str, Scalar]:
        """The server's version, where it tells one."""
        if source.server is None:
            return {}
        root = source.server.url.removesuffix("/v1")
        try:
            calls = ServerCalls(root, source.server.name, key_headers(source.server, preset_of(source.server), os.environ))
        except (UsageError, ServerError):  # the run will say so
            return {}
        for path, name in VERSION_PATHS:
            try:
                told = calls.ask(path, timeout_s=VERSION_TIMEOUT_S)
            except ServerError as error:
                if error.status is None:  # whoever does not answer once is not waited for again
                    break
                continue
            if isinstance(told, dict) and isinstance(found := told.get(name), str):
                return {"server_version": found}
        return {}

    def load(self, source: Source, case: Case) -> HttpSession:
        """Check the server, its key and its model, and connect.

        Raises:
            UsageError: no server or an unknown preset is named.
            ServerError: the server does not answer, refuses the key, or lacks the model.
            UnsupportedError: the server cannot do what the case asks for.
        """
        if source.server is None:
            raise UsageError("The engine openai needs a server: name one with server, or give its URL.")
        server, preset = source.server, preset_of(source.server)
        headers = key_headers(server, preset, self._environ)
        model = known_model(ServerCalls(server.url, server.name, headers), source.model, any_name=preset.one_model)
        wire = OpenAIWire(
            server.url, model, preset, headers, prompt_cache=case.prompt_cache, log_probabilities=case.log_probabilities
        )
        wire.endpoint(case.prompt_format)
        return HttpSession(wire, codec_of(server, preset, model, headers), request_timeout_s=source.request_timeout_s)


def preset_of(server: Server) -> Preset:
    if server.preset not in PRESETS:
        raise UsageError(f"servers.{server.name}.preset: unknown preset {server.preset!r}{nearest(server.preset, PRESETS)}")
    return PRESETS[server.preset]


def key_headers(server: Server, preset: Preset, environ: Mapping[str, str]) -> dict[str, str]:
    """The key as a header: that of the variable which the server names; the preset's own only for its own hosts, over https.

    Raises:
        ServerError: the variable is not set, or holds what is no key.
    """
    url = urlsplit(server.url)
    is_own = url.scheme == "https" and preset.key_host and (url.hostname or "").endswith(preset.key_host)
    own = preset.key_env if is_own else None
    variable = server.api_key_env or own
    if variable is None:
        return {}
    key = environ.get(variable, "").strip()
    if not key:
        raise ServerError(f"The server {server.name} wants a key: set the environment variable {variable} to it.")
    if not key.isascii() or not key.isprintable():
        raise ServerError(f"The key in {variable} holds characters that no header can: set it to the key of {server.name} alone.")
    return {"Authorization": f"Bearer {key}"}


def known_model(calls: ServerCalls, model: str, *, any_name: bool = False) -> str:
    """The model's name as the server lists it; as it was given where the server has no list.

    Args:
        any_name: a server with one model answers for every name.

    Raises:
        ServerError: the server does not answer, or lists other models.
        UsageError: no model was named and the server lists several, or none.
    """
    try:
        listed = calls.ask("/models")
    except ServerError as error:
        if error.status not in NO_ENDPOINT:
            raise
        listed = {}
    found = listed.get("data") if isinstance(listed, dict) else None
    names = [str(one["id"]) for one in found or [] if isinstance(one, dict) and "id" in one]
    if not model:
        if len(names) == 1:
            return names[0]
        raise UsageError(f"The server {calls.name} lists {len(names)} models: name the one to measure as model.")
    google = f"models/{model}"  # Google's list has names with this prefix, and takes them without
    if not names or model in names or google in names or (any_name and len(names) == 1):
        return model
    raise ServerError(
        f"The server {calls.name} has no model {model!r}{nearest(model, get_close_matches(model, names, 5, 0.3) or names[:10])}",
        kind="missing_weights",
    )


def codec_of(server: Server, preset: Preset, model: str, headers: Mapping[str, str]) -> Codec:
    """A tokenizer's folder when one is named, else the server's own endpoints, else nobody."""
    if server.tokenizer:
        return FolderCodec(server.tokenizer)
    if preset.tokenizer is None:
        return NoCodec()
    root = server.url.rstrip("/").removesuffix("/v1")
    codec = (
        LlamaServerCodec(root, name=server.name, headers=headers)
        if preset.tokenizer == "llama-server"
        else VllmCodec(root, model, name=server.name, headers=headers)
    )
    try:
        codec.recount("a")
    except ServerError:  # behind a gateway, or switched off
        return NoCodec()
    return codec
