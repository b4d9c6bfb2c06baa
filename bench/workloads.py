"""Prompts: named sets of texts, and prompts of exact length with unique beginnings made from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from results.cases import PromptFormat
from results.errors import UsageError
from results.record import digest
from results.validation import load_yaml, nearest


class Prompts(BaseModel):
    """A set of prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    prompts: tuple[str, ...] = Field(min_length=1)
    references: tuple[str | None, ...] = Field((), description="The right answer to each prompt, where there is one.")

    @property
    def digest(self) -> str:
        """Hash of the content: equal sets under different names are one workload."""
        return "p1-" + digest([self.prompts, self.references])

    def reference(self, index: int) -> str | None:
        return self.references[index] if index < len(self.references) else None


@dataclass(frozen=True)
class Prompt:
    """One prompt as it is sent."""

    index: int
    """Which prompt of the set it came from."""
    text: str
    """Of a chat prompt the message alone, without its template."""
    token_ids: tuple[int, ...]
    """Of the whole; empty where nothing here can tokenize."""
    form: PromptFormat = "plain"


Encode = Callable[[str, PromptFormat], Sequence[int]]
Decode = Callable[[Sequence[int]], str]


def prompt_sets() -> list[str]:
    """Names of the built-in sets."""
    return sorted(item.name.removesuffix(".yaml") for item in (files("suites") / "prompts").iterdir())


def load_prompts(reference: str) -> Prompts:
    """A built-in set by name, or one by path.

    Raises:
        UsageError: neither exists, or the file is not valid.
    """
    if reference in prompt_sets():
        return load_yaml(Path(str(files("suites") / "prompts" / f"{reference}.yaml")), Prompts)
    path = Path(reference).expanduser()
    if path.is_file():
        return load_yaml(path, Prompts)
    raise UsageError(f"workload.prompts: no file and no built-in set {reference!r}{nearest(reference, prompt_sets())}")


def speed_prompt(
    prompts: Prompts, number: int, mark: str, tokens: int | None, form: PromptFormat, encode: Encode, decode: Decode
) -> Prompt:
    """The prompt for one measured request: unique in its first tokens, so that no cache of a former one can help.

    Args:
        number: of the request in its case and process.
        mark: what tells the case and the process from others.
        tokens: exact length by the model's tokenizer, special tokens included; `None`: the text's own length.

    Raises:
        UsageError: the length cannot be met, for example because the chat template alone is longer.
    """
    index = number % len(prompts.prompts)
    text = f"{number + 1}.{mark} {prompts.prompts[index]}"
    if tokens is None:
        return Prompt(index, text, tuple(encode(text, form)), form)
    if not encode(text, form):
        raise UsageError(
            "prompt_tokens: nothing here can tokenize for this server: name a tokenizer folder, or leave prompt_tokens out."
        )
    following = 1
    while len(encode(text, form)) < tokens:
        text += "\n" + prompts.prompts[(index + following) % len(prompts.prompts)]
        following += 1
    if form == "chat":
        return Prompt(index, *_cut_inside_template(text, tokens, encode, decode), form)
    ids = tuple(encode(text, form))[:tokens]
    return Prompt(index, decode(ids), ids, form)


def quality_prompt(prompts: Prompts, index: int, form: PromptFormat, encode: Encode) -> Prompt:
    """One prompt of the set as it stands."""
    text = prompts.prompts[index]
    return Prompt(index, text, tuple(encode(text, form)), form)


def _cut_inside_template(text: str, tokens: int, encode: Encode, decode: Decode) -> tuple[str, tuple[int, ...]]:
    """The longest beginning of `text` that fills the chat template to exactly `tokens`, and the ids of the whole: cut inside,
    the template stays as it is."""
    content = encode(text, "plain")
    for kept in range(len(content), 0, -1):
        ids = tuple(encode(beginning := decode(content[:kept]), "chat"))
        if len(ids) == tokens:
            return beginning, ids
    raise UsageError(f"workload.prompt_tokens: no prompt of {tokens} tokens fits the chat template: choose a larger length.")
