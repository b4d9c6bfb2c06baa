"""What was measured and what went wrong, as frozen plain data; what was planned stands in `results.cases`.

Lowest in the import ladder, with `results.cases` and `results.record`. Units are base units and stand in the field's name;
unknown is `None`. Times named `*_s` are `perf_counter` seconds since the start of their measurement; dates are UTC.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, FiniteFloat, model_validator

from results.cases import PlannedCase
from results.record import Record, Scalar, Values, digest

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


class Environment(Record):
    """Facts that must agree before two numbers may be compared; `HARD_FACTS` says how strictly."""

    facts: dict[str, Scalar]

    @property
    def environment_id(self) -> str:
        return "e1-" + digest(self.facts)

    @property
    def machine_id(self) -> str:
        """The same for all environments whose hard facts agree: numbers taken in them may be compared."""
        return "m1-" + digest({key: value for key, value in self.facts.items() if key in HARD_FACTS})


HARD_FACTS = frozenset(
    {"system", "machine", "cpu_model", "cpu_count", "cpu_limit", "memory_limit_bytes", "gpus", "gpu_power_limit_w"}
)
"""Facts whose difference forbids a comparison; every other fact is soft: shown, not refused."""

VARIABLE = "variable "
"""Begins the names of soft facts that are variables of the process; one that is missing was not set."""

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
    git_branch: str | None = None
    """`None`: outside a checkout, or its commit is on no branch."""
    paired_with: str | None = None
    """The run whose processes were measured in turn with these: process i of both stood side by side in time."""
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
    facts: dict[str, Scalar] = Field({})


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
    values: Values = Field({})
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
    """How event times were taken: `perf_counter`, `cuda_events` or `mps_events`."""
    requests: tuple[Request, ...]
    values: Values = Field({})
    """Measured metrics of the process, by metric name."""
    facts: dict[str, Scalar] = Field({})
    """What else was found out and is no metric, such as `energy_method`."""
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
