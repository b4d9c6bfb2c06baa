"""What was planned, what was measured and what went wrong, as frozen plain data.

Lowest in the import ladder: nothing of ours is imported here. Units are base units and stand in the field's name;
unknown is `None`. Times named `*_s` are `perf_counter` seconds since the start of their measurement; dates are UTC.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

SCHEMA_VERSION = 1

Scalar = str | int | FiniteFloat | bool | None
Values = dict[str, FiniteFloat]
Purpose = Literal["speed", "quality"]
PromptFormat = Literal["plain", "chat"]
Arrivals = Literal["closed", "constant", "poisson", "gamma", "trace"]
ContentPolicy = Literal["none", "hash", "redacted", "full"]
FailureKind = Literal[
    "oom",
    "timeout",
    "crash",
    "bad_output",
    "engine_error",
    "unsupported",
    "missing_dependency",
    "missing_weights",
    "interrupted",
    "pruned",
]


def digest(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of a value's canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields, with a JSON form that names its schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self, indent: int | None = None) -> str:
        """The record as JSON with a leading `schema` key such as `case/1`."""
        fields = self.model_dump(mode="json")
        return json.dumps({"schema": self.schema_name(), **fields}, indent=indent, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The record from `to_json`'s form.

        Raises:
            ValueError: the text is no JSON, another record, of another schema version, or has wrong fields.
        """
        fields = json.loads(text)
        schema = fields.pop("schema", None) if isinstance(fields, dict) else None
        if schema != cls.schema_name():
            raise ValueError(f"expected a record of schema {cls.schema_name()!r}, found {schema!r}")
        return cls.model_validate_json(json.dumps(fields))

    @classmethod
    def schema_name(cls) -> str:
        return f"{cls.__name__.lower()}/{SCHEMA_VERSION}"


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


class Case(Record):
    """The identity of what is measured, and nothing else: equal cases of different runs and machines meet by `case_id`.

    New axes must have a default that means "as before": defaults are left out of the identity, so old ids stay.
    """

    weights: str
    """`sha256:<64 hex>` of the content, or `hub:<id>@<commit>`; never a path."""
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

    @property
    def case_id(self) -> str:
        """`c1-` and a hash of the canonical form: defaults omitted, keys sorted."""
        return "c1-" + digest(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def config_id(self) -> str:
        """`g1-` and a hash of the case without what it is asked to do: rows of one configuration join by it."""
        return "g1-" + digest(self.model_dump(mode="json", exclude_defaults=True, exclude=_ASKED))

    @property
    def shape(self) -> str:
        """The field's short name of the lengths, such as `pp32 tg16`; `quality` for a quality pass."""
        if self.purpose == "quality":
            return "quality"
        prompt = f"pp{self.prompt_tokens} " if self.prompt_tokens else ""
        prefix = f" prefix {self.shared_prefix_tokens}×{self.prefix_hit_rate:g}" if self.prefix_hit_rate else ""
        turns = f" {self.turns} turns" if self.turns > 1 else ""
        load = f" {self.load.label}" if self.load else ""
        return f"{prompt}tg{self.output_tokens}{prefix}{turns}{load}"


_ASKED = {
    "purpose", "workload", "prompt_format", "prompt_tokens", "output_tokens", "stop", "load", "shared_prefix_tokens",
    "prefix_hit_rate", "turns",
}  # fmt: skip


class PlannedCase(Record):
    """A case and how often, how long and under which name a run measures it."""

    case: Case
    model: str
    """The name people use: a catalog name, a hub id, a folder's or file's name. Not part of the identity."""
    base_model: bool | None = None
    """Whether the model is not instruction-tuned; `None`: unknown."""
    tags: tuple[str, ...] = ()
    processes: int = 1
    iterations: int = 1
    min_seconds: FiniteFloat = 0.0
    warmup: int = 0
    timeout_s: FiniteFloat = 300.0
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
    isolated: bool = False
    """In a process of its own, instead of sharing the load with the other cases of its configuration."""

    @property
    def label(self) -> str:
        """One line for people, such as `gemma-3-270m fp32 cpu pp32 tg16`."""
        case = self.case
        level = case.dtype if case.quantization == case.dtype else f"{case.quantization}/{case.dtype}"
        where = f"on {case.target}" if case.target else f"{level} {case.device}"
        slots = f" {case.slots} slots" if case.slots else ""
        cache = " prompt cache" if case.prompt_cache else ""
        told = " log-probabilities" if case.log_probabilities else ""
        return f"{self.model} {case.engine} {where}{slots}{cache}{told} {case.shape}"


class Environment(Record):
    """Facts that must agree before two numbers may be compared; `HARD_FACTS` says how strictly."""

    facts: dict[str, Scalar]

    @property
    def environment_id(self) -> str:
        return "e1-" + digest(self.facts)


HARD_FACTS = frozenset(
    {"system", "machine", "cpu_model", "cpu_count", "cpu_limit", "memory_limit_bytes", "gpus", "gpu_power_limit_w"}
)
"""Facts whose difference forbids a comparison; every other fact is soft: shown, not refused."""

RunKind = Literal["bench", "probe", "scrape", "proxy", "host", "import"]


class Run(Record):
    run_id: str
    kind: RunKind = "bench"
    suite: str
    suite_hash: str
    suite_source: dict[str, Any]
    """The validated suite, from which a stopped run can be resumed."""
    planned: tuple[PlannedCase, ...]
    seed: int
    """Of the order of loads and cases in each round."""
    environment: Environment
    command: tuple[str, ...]
    git_commit: str | None = None
    git_dirty: bool | None = None
    started_at: AwareDatetime

    def plan_of(self, case_id: str) -> PlannedCase:
        """The planned case with this id; `KeyError` if the run has none."""
        for planned in self.planned:
            if planned.case.case_id == case_id:
                return planned
        raise KeyError(case_id)


class RunEvent(Record):
    """How a run went on or ended. A run without an end event is running or was killed."""

    run_id: str
    at: AwareDatetime
    kind: Literal["resumed", "finished", "interrupted", "failed"]
    detail: str = ""


class RowWarning(Record):
    """Something that may have spoiled a row, with the facts inside; `results.caveats` has the words."""

    kind: str
    facts: dict[str, Scalar] = {}


ERROR_KINDS = {
    "connect": "no connection",
    "timeout": "no end within the request's time limit",
    "disconnected": "the connection ended before the answer did",
    "http_4xx": "the server refused",
    "http_5xx": "the server failed",
    "server_error": "an error inside the stream",
    "bad_stream": "bytes that are not the protocol",
    "empty": "an answer without a token",
    "unsent": "never sent: too many had failed before, the server had ended, or the time was over",
}
"""The kinds of errors of requests to servers, with their meaning."""


class Request(Record):
    request_id: str
    index: int
    prompt_index: int
    """Which prompt of the workload it came from."""
    sent_at: AwareDatetime
    scheduled_s: FiniteFloat
    sent_s: FiniteFloat
    first_content_s: FiniteFloat | None = None
    last_content_s: FiniteFloat | None = None
    event_times_s: tuple[FiniteFloat, ...] = ()
    event_tokens: tuple[int, ...] = ()
    """Tokens that each event carried; as long as `event_times_s`."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    token_source: Literal["engine", "usage", "tokenizer"] | None = None
    finish_reason: Literal["length", "stop", "error", "cancelled"] | None = None
    error: str | None = None
    """`kind: what happened`, of the kinds in `ERROR_KINDS` where a server was asked."""
    values: Values = {}
    """Measured metrics of this request that are not times, by metric name."""
    content_policy: ContentPolicy = "none"
    prompt: str | None = None
    output: str | None = None

    @model_validator(mode="after")
    def _one_count_per_event(self) -> Self:
        if len(self.event_times_s) != len(self.event_tokens):
            raise ValueError("event_times_s and event_tokens differ in length")
        return self


class Series(Record):
    """Telemetry over one measurement, on the measurement's own clock."""

    name: str
    unit: str
    times_s: tuple[FiniteFloat, ...]
    values: tuple[FiniteFloat, ...]


class Measurement(Record):
    """One case in one process."""

    attempt_id: str
    run_id: str
    case_id: str
    process: Annotated[int, Field(ge=0)]
    """The round that the process belongs to, from 0."""
    started_at: AwareDatetime
    timing: str
    """How event times were taken: `perf_counter` or `cuda_events`."""
    requests: tuple[Request, ...]
    values: Values = {}
    """Measured metrics of the process, by metric name."""
    warnings: tuple[RowWarning, ...] = ()
    series: tuple[Series, ...] = ()


class Failure(Record):
    """A case that gave no measurement in one process: a result like any other."""

    attempt_id: str
    run_id: str
    case_id: str
    process: Annotated[int, Field(ge=0)]
    started_at: AwareDatetime
    kind: FailureKind
    phase: str
    """The last thing that the worker had said: `start`, `load`, `warmup`, `measure` …"""
    message: str
    """One sentence with a remedy."""
    exit_code: int | None = None
    stderr_tail: str = ""
    requests: tuple[Request, ...] = ()
    """Those that were finished before."""


class Score(Record):
    """One judgement of one stored output, so that outputs can be scored again later."""

    request_id: str
    scorer: str
    version: str
    item: str
    value: FiniteFloat


class Alert(Record):
    """A rule's state for one case or target at one time."""

    rule: str
    target: str
    severity: Literal["low", "medium", "high"]
    state: Literal["ok", "firing", "no_data"]
    value: FiniteFloat | None
    threshold: FiniteFloat
    message: str
    at: AwareDatetime


class Report(Record):
    """All that the store knows of one run: what exports write and other machines read."""

    run: Run
    events: tuple[RunEvent, ...] = ()
    tags: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    failures: tuple[Failure, ...] = ()
    scores: tuple[Score, ...] = ()

    @property
    def status(self) -> str:
        """`finished`, `interrupted`, `failed`, or `open`: running still, or killed."""
        return status_after([event.kind for event in self.events])


def status_after(events: Sequence[str]) -> str:
    """How a run stands after events of these kinds: the last one, or `open` when it is running still or was killed."""
    return events[-1] if events and events[-1] != "resumed" else "open"
