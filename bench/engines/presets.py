"""What is known of each kind of OpenAI-compatible server, as data. Where each fact comes from: `docs/servers.md`."""

from dataclasses import dataclass, field
from typing import Literal

from results.cases import PromptFormat

LONGEST_CONTEXT = 131072
"""Tokens that a penalty on repetition looks back over where a server wants a number: those of the larger Gemma models' context."""
BOTH: tuple[PromptFormat, ...] = ("plain", "chat")


@dataclass(frozen=True)
class Preset:
    url: str | None = None
    """Base URL unless another one is given."""
    key_env: str | None = None
    """The environment variable with the key, unless another one is given; for https and hosts that end in `key_host`, no others."""
    key_host: str = ""
    chat_only: bool = False
    """There is no endpoint for plain completions."""
    token_ids: bool = False
    """Plain prompts may be token ids, so that nothing can come between the length wanted and the length served."""
    usage: bool = True
    """Streams take `stream_options.include_usage`."""
    running_usage: bool = False
    """They take `stream_options.continuous_usage_stats` too: every event says how many tokens there are so far."""
    ignore_eos: bool = False
    """Requests take `ignore_eos`, so that outputs have exactly the length wanted."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Of chat requests; plain ones take `max_tokens` everywhere."""
    temperature: bool = True
    """Requests take `temperature`; where they do not, the server samples as it likes."""
    cache_field: str | None = None
    """The field that switches the prompt cache."""
    one_model: bool = False
    """A server with one model answers for every name."""
    sent_model: str | None = None
    """What every request says as the model, where its name would mean something else."""
    seed: bool = True
    """Requests take `seed`."""
    all_tokens: int | None = None
    """What `top_k` says for all of them; `None`: requests take no `top_k`."""
    repetition_penalty: str | None = None
    """The field for it, over prompt and output."""
    sampling: dict[str, object] = field(default_factory=dict)
    """Further fields of requests that sample: they switch off what the server would do besides."""
    log_probabilities: tuple[PromptFormat, ...] = ()
    """Requests of these forms take `logprobs`, and streams then tell those of each token."""
    tokenizer: Literal["llama-server", "vllm"] | None = None
    """Whose form the server's endpoints for tokenizing have."""
    extra: dict[str, object] = field(default_factory=dict)
    """Further fields of every request."""


PRESETS = {
    "openai": Preset(log_probabilities=BOTH),
    "openai-api": Preset(
        "https://api.openai.com/v1", "OPENAI_API_KEY", "api.openai.com", chat_only=True,
        length_field="max_completion_tokens", temperature=False, log_probabilities=("chat",),
    ),
    "vllm": Preset(
        "http://127.0.0.1:8000/v1", token_ids=True, running_usage=True, ignore_eos=True, all_tokens=-1,
        repetition_penalty="repetition_penalty", sampling={"min_p": 0}, log_probabilities=BOTH, tokenizer="vllm",
    ),
    "sglang": Preset(
        "http://127.0.0.1:30000/v1", token_ids=True, running_usage=True, ignore_eos=True, all_tokens=-1,
        repetition_penalty="repetition_penalty", sampling={"min_p": 0}, log_probabilities=BOTH, tokenizer="vllm",
    ),
    "tgi": Preset("http://127.0.0.1:8080/v1", one_model=True, sent_model="tgi", log_probabilities=("chat",)),
    "llama-server": Preset(
        "http://127.0.0.1:8080/v1", token_ids=True, ignore_eos=True, cache_field="cache_prompt", one_model=True,
        all_tokens=0, repetition_penalty="repeat_penalty",
        sampling={"repeat_last_n": LONGEST_CONTEXT, "samplers": ["penalties", "temperature", "top_k", "top_p"]}, log_probabilities=BOTH,
        tokenizer="llama-server", extra={"timings_per_token": True},
    ),
    "lm-studio": Preset("http://127.0.0.1:1234/v1", all_tokens=0, repetition_penalty="repeat_penalty"),
    "nvidia": Preset("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", ".api.nvidia.com", chat_only=True),
    "google": Preset(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "generativelanguage.googleapis.com",
        chat_only=True, seed=False,
    ),
    "vertex": Preset(None, "VERTEX_ACCESS_TOKEN", "aiplatform.googleapis.com", chat_only=True, seed=False),
}  # fmt: skip
