"""What is to be measured: a case's identity, and how often, how long and under which names a run measures it."""

from collections.abc import Mapping
from typing import Literal

from pydantic import FiniteFloat

from results.record import Record, digest

Purpose = Literal["speed", "quality", "finetune"]
PromptFormat = Literal["plain", "chat"]
Arrivals = Literal["closed", "constant", "poisson", "gamma", "trace"]
Attention = Literal["eager", "sdpa", "sdpa-flash", "sdpa-efficient", "sdpa-math", "flash-attention-2", "on", "off"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
KvCache = Literal["off", "dynamic", "static", "offloaded", "quantized"]
RANDOM = "random:"
"""What the identity of weights begins with that are drawn at random for an architecture."""


class Load(Record):
    """How requests arrive at a server: `concurrency` at a time in a closed loop, or on a schedule of their own."""

    arrivals: Arrivals
    concurrency: int | None = None
    """Requests in flight, of the closed loop."""
    rate: FiniteFloat | None = None
    """Requests per second, of `constant`, `poisson` and `gamma` arrivals."""
    burstiness: FiniteFloat | None = None
    """Shape of the gamma distribution of the gaps: 1 is Poisson, less comes in bursts, more is steadier."""
    trace: str | None = None
    """Hash of the trace that is replayed."""
    ramp_s: FiniteFloat = 0.0
    """Over which a closed loop grows to its concurrency."""

    @property
    def label(self) -> str:
        """Short, such as `c4`, `poisson 2.5/s` or `trace`."""
        if self.arrivals == "closed":
            return f"c{self.concurrency}"
        return self.arrivals if self.rate is None else f"{self.arrivals} {self.rate:g}/s"


class Sampling(Record):
    """How tokens are drawn, where it is not greedily."""

    temperature: FiniteFloat = 0.7
    top_p: FiniteFloat = 0.9
    top_k: int | None = None
    """`None`: of all tokens."""
    repetition_penalty: FiniteFloat = 1.05
    seed: int = 0

    @property
    def label(self) -> str:
        """Short, such as `T0.7`, or `T0.7 top-p 0.5` where more differs from what goes without saying."""
        return " ".join([f"T{self.temperature:g}", *_differing(self, _SAMPLING_WORDS)])


class Training(Record):
    """A fine-tuning with LoRA (low-rank adapters); targets are all linear layers of attention and MLP."""

    rank: int = 16
    alpha: int = 32
    dropout: FiniteFloat = 0.1
    learning_rate: FiniteFloat = 2e-5
    batch: int = 2
    accumulation: int = 8
    """Batches whose gradients one step adds up."""
    sequence_tokens: int = 2048
    steps: int = 20
    checkpointing: bool = True
    """Whether activations are computed anew on the way back instead of kept."""

    @property
    def label(self) -> str:
        """Short, such as `lora16 2×128`, or `lora16 2×2048 ×8` with accumulation."""
        more = f" ×{self.accumulation}" if self.accumulation > 1 else ""
        return " ".join([f"lora{self.rank} {self.batch}×{self.sequence_tokens}{more}", *_differing(self, _TRAINING_WORDS)])


_SAMPLING_WORDS = {"top_p": "top-p", "top_k": "top-k", "repetition_penalty": "penalty", "seed": "seed"}
_TRAINING_WORDS = {
    "alpha": "alpha",
    "dropout": "dropout",
    "learning_rate": "rate",
    "steps": "steps",
    "checkpointing": "checkpointing",
}


def _differing(record: Record, words: Mapping[str, str]) -> list[str]:
    """Each of these fields whose value is not the default, such as `top-p 0.5` or `no checkpointing`."""
    values = {
        word: getattr(record, name)
        for name, word in words.items()
        if getattr(record, name) != type(record).model_fields[name].default
    }
    return [f"no {word}" if value is False else f"{word} {value:.15g}" for word, value in values.items()]


class Case(Record):
    """The identity of what is measured, and nothing else: equal cases of different runs and machines meet by `case_id`.

    New axes must have a default that means "as before": defaults are left out of the identity, so old ids stay.
    """

    weights: str
    """`sha256:<64 hex>` of the content, `hub:<id>@<commit>`, `random:<hash of the architecture>`, or of a report that another tool made
    `imported:<tool>:<name>`; never a path."""
    engine: str
    device: str
    """`cpu`, `cuda`, `mps` …; which one exactly is a fact of the environment."""
    dtype: str
    """The type of computing."""
    quantization: str
    """The format of the weights in memory."""
    source_precision: str | None = None
    """The format that the weights came from, when it was coarser: a 4-bit file expanded to fp32 is not full precision."""
    threads: int | None = None
    """CPU threads that compute, resolved; `None` where the device computes."""
    purpose: Purpose = "speed"
    workload: str
    """Hash of the prompts' content."""
    prompt_format: PromptFormat = "plain"
    prompt_tokens: int | None = None
    """Exact prompt length; `None`: as long as the prompts are."""
    output_tokens: int
    """Exact output length with `stop="length"`, the limit with `stop="eos"`."""
    stop: Literal["length", "eos"] = "length"
    target: str | None = None
    """The name of a server that we did not start."""
    slots: int | None = None
    """Sequences that a server of ours decodes at a time."""
    load: Load | None = None
    """`None`: one request at a time."""
    prompt_cache: bool = False
    """Whether a server may reuse what it computed for an earlier prompt with the same beginning."""
    shared_prefix_tokens: int | None = None
    """Length of the beginning that a share of the prompts has in common."""
    prefix_hit_rate: FiniteFloat | None = None
    """That share, 0 to 1."""
    turns: int = 1
    """Requests of one conversation, each with all of the earlier ones before it."""
    log_probabilities: bool = False
    """Whether the engine is asked for those of the chosen tokens, which costs it time."""
    batch: int = 1
    """Prompts that are generated for together, padded to one length."""
    depth: int = 0
    """Tokens that the KV cache holds already when the prompt comes."""
    sampling: Sampling | None = None
    """`None`: greedy."""
    training: Training | None = None
    """What a case of purpose `finetune` trains."""
    draft: str | None = None
    """The weights of a smaller model that drafts tokens for this one to accept: speculative decoding."""
    draft_tokens: int | None = None
    """Tokens that it drafts at a time."""
    attention: Attention | None = None
    """The attention kernel; `None`: the engine's own choice."""
    compile_mode: CompileMode | None = None
    """Of `torch.compile`; `None`: not compiled."""
    kv_cache: KvCache | None = None
    """How the KV cache is kept; `None`: the engine's own choice."""
    kv_dtype: str | None = None
    """The format of the KV cache; `None`: the engine's own choice."""
    tensor_parallel: int = 1
    """Devices that share each layer."""
    adapter: str | None = None
    """`sha256:<64 hex>` of a LoRA adapter's content."""

    @property
    def case_id(self) -> str:
        """`c1-` and a hash of the canonical form: defaults omitted, keys sorted."""
        return "c1-" + digest(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def config_id(self) -> str:
        """`g1-` and a hash of the case without what it is asked to do: rows of one configuration join by it."""
        return "g1-" + digest(self.model_dump(mode="json", exclude_defaults=True, exclude=_ASKED))

    @property
    def has_random_weights(self) -> bool:
        """Speed and memory are then real, and quality means nothing."""
        return self.weights.startswith(RANDOM)

    @property
    def shape(self) -> str:
        """The field's short name of what is asked, such as `pp32 tg16`, `pp512 tg128 @d4096` or `quality`."""
        if self.purpose == "quality":
            return "quality"
        if self.training:
            return self.training.label
        parts = [f"pp{self.prompt_tokens}" if self.prompt_tokens else "", f"tg{self.output_tokens}" if self.output_tokens else ""]
        parts.append(f"@d{self.depth}" if self.depth else "")
        parts.append(f"b{self.batch}" if self.batch > 1 else "")
        parts.append(f"prefix {self.shared_prefix_tokens}×{self.prefix_hit_rate:g}" if self.prefix_hit_rate else "")
        parts.append(f"{self.turns} turns" if self.turns > 1 else "")
        parts += [one.label for one in (self.sampling, self.load) if one]
        return " ".join(part for part in parts if part)


_ASKED = {
    "purpose", "workload", "prompt_format", "prompt_tokens", "output_tokens", "stop", "load", "shared_prefix_tokens",
    "prefix_hit_rate", "turns", "batch", "depth", "sampling", "training",
}  # fmt: skip


class MemoryEstimate(Record):
    """What a case is expected to take on its device, and what was free there when the run was planned; in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    runtime_bytes: int
    """Python, the engine's libraries and their buffers."""
    available_bytes: int | None = None

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.activation_bytes + self.runtime_bytes

    @property
    def fits(self) -> bool | None:
        """`None`: nobody knows what is free."""
        return None if self.available_bytes is None else self.total_bytes <= self.available_bytes


class PlannedCase(Record):
    """A case and how often, how long and under which name a run measures it."""

    case: Case
    model: str
    """The name people use: a catalog name, a hub id, a folder's or file's name. Not part of the identity."""
    base_model: bool | None = None
    """Whether the model is not instruction-tuned; `None`: unknown."""
    draft_model: str | None = None
    """The name of the model that drafts."""
    adapter_name: str | None = None
    asked_threads: int | None = None
    """`None`: the suite left it to the machine."""
    tags: tuple[str, ...] = ()
    processes: int = 1
    iterations: int = 1
    min_seconds: FiniteFloat = 0.0
    warmup: int = 0
    timeout_s: FiniteFloat = 300.0
    cooldown_s: FiniteFloat = 0.0
    """Of rest before the load that the case belongs to."""
    memory_limit_bytes: int | None = None
    """Resident memory of the process tree at which the case is ended as `oom`; `None`: only the machine's own limit."""
    price_per_hour: FiniteFloat | None = None
    """Of the machine, in any one currency."""
    estimate: MemoryEstimate | None = None
    """`None`: the architecture's dimensions are not known."""
    scorers: tuple[str, ...] = ()
    limits: str | None = None
    """What a request must keep to count for the goodput, such as `ttft_s<0.5 and tpot_s<0.05`."""
    clients: int = 1
    """Processes that send the requests of a load."""
    request_timeout_s: FiniteFloat = 120.0
    """After which one request to a server is given up."""
    retries: int = 0
    """How often a failed request to a server is sent again."""
    give_up_after: int = 20
    """Failed requests in a row after which no more are sent; those left count as `unsent`."""
    context_tokens: int | None = None
    """Room per sequence, where the engine makes it when it loads: cases of a configuration with the same room share a load."""
    isolated: bool = False
    """In a process of its own, instead of sharing the load with the other cases of its configuration."""

    @property
    def words(self) -> tuple[str, ...]:
        """What tells cases apart for people, each at its place; empty where there is nothing to say."""
        case = self.case
        level = case.dtype if case.quantization == case.dtype else f"{case.quantization}/{case.dtype}"
        return (
            self.model,
            "random weights" if case.has_random_weights else "",
            f"+ {self.adapter_name}" if self.adapter_name else "",
            case.engine,
            f"on {case.target}" if case.target else level,
            "" if case.target else case.device,
            f"{self.asked_threads} thread{'s' if self.asked_threads > 1 else ''}" if self.asked_threads else "",
            f"{case.slots} slots" if case.slots else "",
            f"tp{case.tensor_parallel}" if case.tensor_parallel > 1 else "",
            f"attention {case.attention}" if case.attention else "",
            f"compiled {case.compile_mode}" if case.compile_mode else "",
            f"kv {' '.join(filter(None, (case.kv_cache, case.kv_dtype)))}" if case.kv_cache or case.kv_dtype else "",
            f"drafted by {self.draft_model} ×{case.draft_tokens}" if case.draft else "",
            "prompt cache" if case.prompt_cache else "",
            "log-probabilities" if case.log_probabilities else "",
            case.shape,
        )

    @property
    def label(self) -> str:
        """One line for people, such as `gemma-3-270m transformers fp32 cpu pp32 tg16`."""
        return " ".join(word for word in self.words if word)
