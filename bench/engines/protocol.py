"""What an engine must offer: say what it supports, refuse or load a case's model, then generate with the time of every token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from bench.workloads import Prompt
from monitor.http import Endpoint
from monitor.stream import Dialect
from results.cases import Case, PromptFormat, Training
from results.record import Scalar

Clock = Callable[[], float]
"""Monotonic seconds, as `time.perf_counter`."""


@dataclass(frozen=True)
class Support:
    """What an engine can do, known without importing its packages."""

    weights: Literal["folder", "gguf", "served"]
    """What it loads: a folder in Hugging Face format, a GGUF file, or nothing, as the server has the model."""
    packages: tuple[str, ...]
    """Distributions that it needs; their versions are facts of the environment."""
    extra: str | None
    """Gemmeter's extra that installs them."""
    devices: tuple[str, ...]
    quantizations: tuple[str, ...]
    """`as stored`: whatever format the file has."""
    modalities: tuple[str, ...] = ("text",)
    log_probabilities: bool = False
    token_counts: Literal["engine", "usage"] = "engine"  # noqa: S105
    """Where counts come from: `engine`, or `usage`, what a server says."""
    switches: frozenset[str] = frozenset()
    """Fields of `Case` that it lets differ from their defaults, such as `batch`, `sampling` or `attention`."""
    random_weights: bool = False
    """Whether it can make the weights of an architecture itself."""
    concurrent: bool = False
    """Many requests at a time, so that it can be put under load."""
    starts_server: bool = False
    program: str | None = None
    """What must be on the PATH."""


@dataclass(frozen=True)
class Server:
    """A server that somebody else started, as a suite names it."""

    name: str
    url: str
    """Base URL, such as `http://127.0.0.1:8000/v1`."""
    preset: str = "openai"
    api_key_env: str | None = None
    """The environment variable that holds the key."""
    tokenizer: str | None = None
    """A local folder with the model's tokenizer, for prompts of exact length."""


@dataclass(frozen=True)
class Source:
    """What a session is made from."""

    weights: Path | None = None
    """A folder or a GGUF file, as `Support.weights` says."""
    server: Server | None = None
    model: str = ""
    """The name that a server knows the model by."""
    architecture: Mapping[str, Any] | None = None
    """The configuration, as in Hugging Face's `config.json`, of a model whose weights are drawn at random."""
    draft: Path | None = None
    """The weights of the model that drafts, in the same form."""
    adapter: Path | None = None
    """A folder with a LoRA adapter."""
    context_tokens: int = 4096
    """Room per sequence, where the engine makes it when it loads."""
    request_timeout_s: float = 120.0


@dataclass(frozen=True)
class Generation:
    """What happened in one request, in raw times of the clock that was passed in."""

    sent: float
    event_times: tuple[float, ...]
    """When the host or the device had each event; one event may carry several tokens, or none."""
    event_tokens: tuple[int, ...]
    prompt_tokens: int | None
    output_tokens: int | None
    text: str
    finish_reason: Literal["length", "stop", "cancelled"] | None
    values: dict[str, float] = field(default_factory=dict)
    """Further metrics of this request, by name."""
    first_content: float | None = None
    """`None`: that of the first event."""
    last_content: float | None = None
    token_source: Literal["engine", "usage", "tokenizer"] | None = "engine"  # noqa: S105
    error: str | None = None
    """`kind: what happened`, of a request to a server; engines in process raise instead."""
    uneven: bool = False
    """Whether the tokens of each event are an estimate."""


class Session(Protocol):
    """A loaded model."""

    timing: str
    """How event times are taken: `perf_counter`, `cuda_events` or `mps_events`."""

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        """Token ids with the special tokens that the model expects.

        Raises:
            UnsupportedError: the model has no chat template and `form` is `chat`, or nothing here can tokenize.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        """Generation, greedy unless the case samples: exactly `output_tokens` with `length`, at most so many with `eos`."""

    def recount(self, text: str) -> int | None:
        """Tokens of a whole text without special tokens: the check of the engine's own count; `None` where nothing can tell."""

    def values(self) -> dict[str, float]:
        """Metrics of the loaded model and of the time since `begin`: `weights_bytes`, peaks on the device."""

    def begin(self, case: Case) -> None:
        """The next requests belong to this case of the load's configuration: take its batch, depth and sampling, make ready what
        they need outside of any timed request, and forget the peaks on the device.

        Raises:
            UnsupportedError: the model cannot do it.
        """

    def close(self) -> None:
        """End what the session started: its server, its connections."""


@runtime_checkable
class Batched(Protocol):
    """A session that generates for several prompts at a time."""

    def generate_batch(
        self, prompts: Sequence[Prompt], output_tokens: int, stop: Literal["length", "eos"], clock: Clock
    ) -> list[Generation]:
        """One generation per prompt, in order, padded to one length; all of them share `sent` and the times of their events."""


@dataclass(frozen=True)
class TrainingStep:
    """One optimizer step, in raw times of the clock that was passed in."""

    started: float
    ended: float
    tokens: int
    """That the step learned from, padding left out."""
    loss: float


@runtime_checkable
class Trainable(Protocol):
    """A session whose model can be fine-tuned."""

    def train(
        self, training: Training, seed: int, clock: Clock, begun: Callable[[], None], tell: Callable[[TrainingStep], None]
    ) -> None:
        """Fine-tune on generated data and tell each step, outside the time of any; `values` then has `fixed_loss_before` and
        `fixed_loss_after`, the loss on one batch that is never trained on.

        Args:
            begun: called once, when all is prepared and the first step comes next.

        Raises:
            GemmeterError: a package that training needs is missing.
            UnsupportedError: the model cannot be trained this way.
        """


@runtime_checkable
class Served(Protocol):
    """A session whose model answers over HTTP, so that clients of ours can put it under load."""

    server_pid: int | None
    """Of a server that we started; its process tree's memory counts apart."""

    def endpoint(self, form: PromptFormat) -> Endpoint:
        """Where prompts of this form are sent."""

    def dialect(self, form: PromptFormat) -> Dialect:
        """What the answers look like."""

    def body(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], history: Sequence[str] = ()) -> bytes:
        """The JSON of one request, greedy unless the case samples, streamed, with usage; `history`: earlier prompts and answers in turn."""

    def alive(self) -> str | None:
        """Why a server of ours has ended; `None` while it runs, or when it is not ours."""


class Engine(Protocol):
    support: Support

    def refuse(self, case: Case) -> str | None:
        """Why this case cannot run here, in one sentence with a remedy; `None` when it can."""

    def load(self, source: Source, case: Case) -> Session: ...


@runtime_checkable
class Informed(Protocol):
    """An engine class that knows versions which no package tells: of a program, of a server."""

    @staticmethod
    def facts(source: Source) -> dict[str, Scalar]:
        """Facts for the environment, asked before a run; empty where nobody answers."""


class UnsupportedError(Exception):
    """The case cannot run with this engine or model; the message says why and what to do."""
