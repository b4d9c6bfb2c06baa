"""Who turns text into tokens for a server that is asked over HTTP: the server itself, the model's tokenizer in a folder, or nobody.

`can_encode` says whether prompts of exact length can be made. None of this is timed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.engines.protocol import UnsupportedError
from bench.engines.server_calls import NO_ENDPOINT, ServerCalls, ServerError
from results.cases import PromptFormat


class LlamaServerCodec:
    """`llama-server`: POST /tokenize, /detokenize and /apply-template."""

    can_encode = True

    def __init__(self, root_url: str, *, name: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._calls = ServerCalls(root_url, name, headers or {})
        self._specials: list[int] | None = None

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        if form == "plain":
            return self._tokenize(text, special=True)
        answer = _ask_for_chat(self._calls, {"prompt": str}, "/apply-template", {"messages": _messages(text)})
        return self._tokenize(answer["prompt"], special=True)

    def decode(self, ids: Sequence[int]) -> str:
        if self._specials is None:
            self._specials = self._tokenize("", special=True)
        answer = self._calls.ask_for({"content": str}, "/detokenize", {"tokens": _without(self._specials, ids)})
        return str(answer["content"])

    def recount(self, text: str) -> int:
        return len(self._tokenize(text, special=False))

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        return list(self._calls.ask_for({"tokens": list}, "/tokenize", {"content": text, "add_special": special})["tokens"])


class VllmCodec:
    """vLLM and SGLang: POST /tokenize and /detokenize, whose answer has the text as `prompt` or as `text`."""

    can_encode = True

    def __init__(self, root_url: str, model: str, *, name: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._calls = ServerCalls(root_url, name, headers or {})
        self._model = model
        self._specials: list[int] | None = None

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        if form == "plain":
            return self._tokenize(text, special=True)
        body = {"model": self._model, "messages": _messages(text), "add_generation_prompt": True}
        return list(_ask_for_chat(self._calls, {"tokens": list}, "/tokenize", body)["tokens"])

    def decode(self, ids: Sequence[int]) -> str:
        if self._specials is None:
            self._specials = self._tokenize("", special=True)
        body = {"model": self._model, "tokens": _without(self._specials, ids)}
        answer = self._calls.ask_for({}, "/detokenize", body)
        text = answer.get("prompt", answer.get("text"))
        if not isinstance(text, str):
            raise self._calls.other_kind("/detokenize")
        return text

    def recount(self, text: str) -> int:
        return len(self._tokenize(text, special=False))

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        body = {"model": self._model, "prompt": text, "add_special_tokens": special}
        return list(self._calls.ask_for({"tokens": list}, "/tokenize", body)["tokens"])


class FolderCodec:
    """The model's own tokenizer from a local folder, through transformers; code that comes with it is not run.

    Raises:
        UnsupportedError: the folder holds no tokenizer.
        ImportError: transformers is not installed.
    """

    can_encode = True

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoTokenizer

        path = Path(folder).expanduser()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UnsupportedError(f"the folder {path.name} holds no tokenizer: give the model's folder as tokenizer.") from error

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        if form == "plain":
            return list(self._tokenizer(text).input_ids)
        if not self._tokenizer.chat_template:
            raise UnsupportedError("the tokenizer has no chat template: set workload.prompt_format to plain.")
        made = self._tokenizer.apply_chat_template(_messages(text), add_generation_prompt=True, tokenize=True, return_dict=True)
        return list(made["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def recount(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False).input_ids)


class NoCodec:
    """Nobody can tokenize: prompts go out as text, as long as they are, and counts are what the server says."""

    can_encode = False

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        """No ids: a prompt of the text's own length needs none."""
        return ()

    def decode(self, ids: Sequence[int]) -> str:
        raise UnsupportedError("nothing here can tokenize for this server: leave prompt_tokens out, or name a tokenizer folder.")

    def recount(self, text: str) -> int | None:
        return None


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _ask_for_chat(calls: ServerCalls, wanted: dict[str, type], path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A call that fails where the model has no chat template."""
    try:
        return calls.ask_for(wanted, path, body)
    except ServerError as error:
        if error.status is None or error.status in (401, 403):
            raise
        remedy = "name a tokenizer folder" if error.status in NO_ENDPOINT else "set workload.prompt_format to plain"
        raise UnsupportedError(f"the server cannot apply a chat template ({str(error).rstrip('.')}): {remedy}.") from error


def _without(specials: Sequence[int], ids: Sequence[int]) -> list[int]:
    """`ids` without the special tokens that an empty text has too, such as the beginning of sequence."""
    start = 0
    while start < min(len(specials), len(ids)) and ids[start] == specials[start]:
        start += 1
    return list(ids[start:])
