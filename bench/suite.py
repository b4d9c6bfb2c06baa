"""Suites: YAML with a matrix of axes, validated. What it means on this machine is left to `bench.expansion`."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, FiniteFloat, create_model

from bench.catalog import catalog
from bench.quantizations import NAMES, OPTIMIZATIONS
from bench.servers import ServerSpec, is_url, scrubbed, url_name
from bench.serving import Serving
from bench.workloads import prompt_sets
from results.cases import Attention, CompileMode, KvCache
from results.errors import UsageError
from results.record import digest
from results.scorers import SCORERS
from results.validation import load_yaml, nearest, validate

Dtype = Literal["fp32", "bf16", "fp16"]
Quantization = Literal[NAMES]  # type: ignore[valid-type]
Strict = ConfigDict(extra="forbid", frozen=True)
MOST_PROCESSES = 1000
WITH_WORDS = ("attention", "kv_cache")
"""Axes with the words `on` and `off`, which YAML takes for true and false."""


def _word(value: Any) -> Any:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


OnOff = BeforeValidator(_word)


class Point(BaseModel):
    """A value for each axis and setting; what is not given comes from `defaults`, then from the built-in defaults."""

    model_config = Strict
    model: str | None = Field(None, min_length=1, description="A catalog name, a local folder or file, or hub id@revision.")
    weights: Literal["stored", "random"] | None = Field(
        None, description="`random` draws the weights of the model's architecture: real speed and memory, nothing to download."
    )
    adapter: str | None = Field(None, min_length=1, description="A folder with a LoRA adapter of the model.")
    engine: str | None = Field(None, min_length=1, description="`bench engines` shows them all.")
    server: str | None = Field(None, min_length=1, description="A name of `servers`, a preset's name, or a URL.")
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None
    dtype: Dtype | None = Field(None, description="The type of computing.")
    quantization: Quantization | None = Field(
        None, description="The format of the weights in memory; as the file has it, or as `dtype`, unless given."
    )
    optimization: Literal[tuple(OPTIMIZATIONS)] | None = Field(  # type: ignore[valid-type]
        None, description="A level of the Gemma tutorial, instead of quantization and dtype."
    )
    attention: Annotated[Attention, OnOff] | None = Field(
        None, description="The attention kernel; the engine's own choice unless given."
    )
    compile: CompileMode | None = Field(None, description="The mode of torch.compile; not compiled unless given.")
    kv_cache: Annotated[KvCache, OnOff] | None = Field(
        None, description="How the KV cache is kept; the engine's own choice unless given."
    )
    kv_dtype: str | None = Field(None, min_length=1, description="The format of the KV cache, such as fp16, q8_0 or int4.")
    draft: str | None = Field(None, min_length=1, description="A smaller model that drafts tokens: speculative decoding.")
    draft_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="Tokens drafted at a time; 5 unless given.")
    tensor_parallel: Annotated[int, Field(ge=1)] | None = Field(None, description="Devices that share each layer.")
    batch: Annotated[int, Field(ge=1)] | None = Field(None, description="Prompts that are generated for together.")
    depth: Annotated[int, Field(ge=0)] | None = Field(None, description="Tokens that the KV cache holds before the prompt comes.")
    temperature: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Of sampling; greedy unless given.")
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = Field(None, description="Of sampling; 0.9 unless given.")
    top_k: Annotated[int, Field(ge=1)] | None = Field(None, description="Of sampling; all tokens unless given.")
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Of sampling; 1.05 unless given.")
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(None, description="CPU threads that compute.")
    prompt_tokens: Annotated[int, Field(ge=2)] | None = Field(None, description="Exact prompt length.")
    output_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="Exact output length.")
    slots: Annotated[int, Field(ge=1)] | None = Field(None, description="Sequences that a server of ours decodes at a time.")
    prompt_cache: bool | None = Field(None, description="Whether a server may reuse what it computed for an earlier prompt.")
    log_probabilities: bool | None = Field(None, description="Whether those of the chosen tokens are asked for: it costs time.")
    concurrency: Annotated[int, Field(ge=1)] | None = Field(None, description="Requests in flight: a closed loop.")
    ramp_s: Annotated[FiniteFloat, Field(ge=0)] | None = Field(None, description="Over which the closed loop grows.")
    rate: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Requests per second: an open loop.")
    arrivals: Literal["constant", "poisson", "gamma"] | None = Field(None, description="Of the open loop; poisson unless given.")
    burstiness: Annotated[FiniteFloat, Field(gt=0)] | None = Field(
        None, description="Shape of gamma arrivals: 1 is Poisson, less comes in bursts."
    )
    processes: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] | None = Field(
        None, description="Processes, the unit of replication."
    )
    iterations: Annotated[int, Field(ge=1)] | None = Field(None, description="Requests per process at the least.")
    min_seconds: Annotated[FiniteFloat, Field(ge=0)] | None = Field(None, description="Seconds of measuring at the least.")
    warmup: Annotated[int, Field(ge=0)] | None = Field(None, description="Requests before that are not counted.")
    timeout_s: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Limit of one load and of one case.")
    cooldown_s: Annotated[FiniteFloat, Field(ge=0, le=3600)] | None = Field(None, description="Of rest before each load.")
    memory_limit: Annotated[ByteSize, Field(gt=0)] | None = Field(
        None, description="Resident memory at which a case ends as oom, such as 8GiB."
    )
    price_per_hour: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Of the machine, in any one currency.")
    clients: Annotated[int, Field(ge=1)] | None = Field(None, description="Processes that send the requests of a load.")
    request_timeout_s: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Limit of one request to a server.")
    retries: Annotated[int, Field(ge=0)] | None = Field(None, description="How often a failed request is sent again.")
    give_up_after: Annotated[int, Field(ge=1)] | None = Field(None, description="Failures in a row after which no more is sent.")


class Include(Point):
    tags: tuple[str, ...] = ()


def _lists() -> dict[str, Any]:
    fields = {}
    for name, field in Point.model_fields.items():
        inner: Any = field.annotation
        fields[name] = (Annotated[list[inner], Field(min_length=1)] | None, Field(None, description=field.description))
    return fields


Matrix: type[BaseModel] = create_model("Matrix", __config__=Strict, **_lists())


class FineTune(BaseModel):
    """LoRA at the Gemma tutorial's settings unless given otherwise."""

    model_config = Strict
    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.1
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 2e-5
    batch: Annotated[int, Field(ge=1)] = 2
    accumulation: Annotated[int, Field(ge=1)] = Field(8, description="Batches whose gradients one step adds up.")
    sequence_tokens: Annotated[int, Field(ge=8)] = 2048
    steps: Annotated[int, Field(ge=1)] = 20
    checkpointing: bool = Field(True, description="Compute activations anew on the way back instead of keeping them.")


class Workload(BaseModel):
    model_config = Strict
    prompts: str = Field("five-questions", description="A built-in set of prompts, or a path beside the suite.")
    prompt_tokens: Annotated[int, Field(ge=2)] | None = Field(None, description="Exact prompt length; own length if absent.")
    prompt_format: Literal["plain", "chat"] = Field("plain", description="Text as it is, or in the model's chat template.")
    shared_prefix_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Length of a beginning that prompts share."
    )
    prefix_hit_rate: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = Field(None, description="Share of the prompts with it.")
    turns: Annotated[int, Field(ge=1)] = Field(1, description="Requests of one conversation.")
    trace: str | None = Field(None, description="A trace to replay, a path beside the suite: when requests come, and how long.")
    finetune: FineTune | None = Field(None, description="Fine-tune instead of generating: its cost is what is measured.")
    trace_speed: Annotated[FiniteFloat, Field(gt=0)] = Field(1.0, description="2 replays the trace twice as fast.")


class Suite(BaseModel):
    """A question about models, and the matrix of cases that answers it."""

    model_config = Strict
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    question: str = Field(description="What the suite answers, in one sentence.")
    defaults: Point = Point()
    matrix: Matrix | None = None
    exclude: tuple[Point, ...] = ()
    include: tuple[Include, ...] = ()
    workload: Workload = Workload()
    servers: dict[str, ServerSpec] = Field({}, description="Servers that somebody else started, by name.")
    limits: str | None = Field(None, description="What a request must keep to count for the goodput, e.g. ttft_s<0.5.")
    serving: Serving | None = Field(None, description="Find the loads by measuring: from one at a time to all at once.")
    quality: tuple[Literal[tuple(SCORERS)], ...] = ()  # type: ignore[valid-type]
    quality_tokens: Annotated[int, Field(ge=1)] = Field(64, description="Longest answer of the quality pass.")
    isolation: Literal["load", "case"] = Field("load", description="Whether cases of one load share a process, or none.")
    content: Literal["full", "hash", "none"] = Field("full", description="What is kept of prompts and outputs.")
    skip_unfit: bool = Field(False, description="Leave out cases that are estimated to take more memory than is free.")

    def source(self) -> dict[str, Any]:
        """The suite as plain data, without what was not given."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


BUILT_IN = {
    "engine": "transformers", "device": "auto", "threads": "auto", "output_tokens": 32, "slots": 1, "prompt_cache": False,
    "log_probabilities": False, "processes": 3, "min_seconds": 2.0, "warmup": 1, "timeout_s": 300.0,
    "weights": "stored", "batch": 1, "depth": 0, "tensor_parallel": 1, "cooldown_s": 0.0,
    "clients": 1, "request_timeout_s": 120.0, "retries": 0, "give_up_after": 20,
}  # fmt: skip
ITERATIONS = 3
"""Unless given, or a trace says how many requests it has."""
SETTINGS = (
    "processes", "iterations", "min_seconds", "warmup", "timeout_s", "cooldown_s", "clients", "request_timeout_s", "retries",
    "give_up_after", "memory_limit", "price_per_hour",
)  # fmt: skip


def suite_names() -> list[str]:
    """Names of the built-in suites."""
    return sorted(
        item.name.removesuffix(".yaml")
        for item in files("suites").iterdir()
        if item.name.endswith(".yaml") and item.name != "catalog.yaml"
    )


def find_suite(reference: str) -> Path:
    """The file of a built-in suite's name, or of a path.

    Raises:
        UsageError: neither exists.
    """
    path = Path(reference).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file() or len(path.parts) > 1:
        if path.is_file():
            return path
        raise UsageError(f"There is no suite file {reference}: give the path of a YAML file, or a name from `bench list`.")
    if reference in suite_names():
        return Path(str(files("suites") / f"{reference}.yaml"))
    raise UsageError(f"There is no suite {reference!r}{nearest(reference, suite_names())} `bench list` shows them all.")


def load_suite(path: Path, overrides: dict[str, Any] | None = None) -> Suite:
    """Read a suite; `overrides` replace its defaults and matrix axes of the same name.

    Raises:
        UsageError: the file is missing, no YAML, or has wrong fields.
    """
    suite = load_yaml(path, Suite)
    if overrides:
        suite = override(suite, overrides)
    return suite


def override(suite: Suite, overrides: dict[str, Any]) -> Suite:
    """The suite with these values instead of its defaults and its matrix axes.

    Excludes that name an overridden axis go, and so do includes that ask for another value of it.
    """
    data = suite.source()
    overrides = overrides | {name: _word(overrides[name]) for name in WITH_WORDS if name in overrides}
    data["defaults"] = data.get("defaults", {}) | overrides
    data["exclude"] = [rule for rule in data.get("exclude", []) if not rule.keys() & overrides.keys()]
    axes = overrides.keys() - set(SETTINGS) - {"model"}
    data["include"] = [one for one in data.get("include", []) if all(one.get(axis) in (None, overrides[axis]) for axis in axes)]
    for part in [data.get("matrix", {}), *data["include"]]:
        for name in overrides:
            part.pop(name, None)
    if not data.get("matrix") and (suite.matrix or not data["include"]):
        data["matrix"] = {name: [value] for name, value in overrides.items() if name not in SETTINGS}
    return validate(data, Suite, "--set")


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`KEY=VALUE` pairs of `--set`, values read as YAML.

    Raises:
        UsageError: one is not of this form.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise UsageError(f"--set {setting}: write KEY=VALUE, for example --set processes=1.")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is not valid YAML.") from None
    return found


def absolute(reference: str, *folders: Path) -> str:
    """A path made absolute from the first folder that holds it; catalog names and hub ids stay as they are."""
    path = Path(reference).expanduser()
    if reference in catalog():
        return reference
    found = next((folder / path for folder in folders if (folder / path).exists()), None)
    if found is None and reference.startswith((".", "~")):
        found = folders[0] / path
    return reference if found is None else str(found.resolve())


def anchor(suite: Suite, folder: Path) -> Suite:
    """The suite with every path made absolute, so that it means the same from any folder and at any later time."""
    suite = with_servers_named(with_models(suite, lambda reference: absolute(reference, folder, Path.cwd())))
    suite = _with_axis(suite, "adapter", lambda reference: absolute(reference, folder, Path.cwd()))
    workload = suite.workload
    found = {} if workload.prompts in prompt_sets() else {"prompts": absolute(workload.prompts, folder, Path.cwd())}
    if workload.trace:
        found["trace"] = absolute(workload.trace, folder, Path.cwd())
    return suite.model_copy(update={"workload": workload.model_copy(update=found)})


def with_models(suite: Suite, change: Callable[[str], str]) -> Suite:
    """The suite with every reference to a model changed; those of served models may not be: see `bench.engines.Support`."""
    return _with_axis(_with_axis(suite, "model", change), "draft", change)


def with_servers_named(suite: Suite) -> Suite:
    """The suite with a name for each server that an axis gave by its URL."""
    urls: set[str] = set()

    def name(reference: str) -> str:
        if not is_url(reference):
            return reference
        urls.add(reference)
        return url_name(reference)

    changed = _with_axis(suite, "server", name)
    return changed.model_copy(update={"servers": changed.servers | {url_name(url): ServerSpec(url=url) for url in urls}})


def _with_axis(suite: Suite, axis: str, change: Callable[[str], str]) -> Suite:
    data = suite.source()
    for part in [data.get("defaults", {}), *data.get("include", []), *data.get("exclude", [])]:
        if axis in part:
            part[axis] = change(part[axis])
    if values := data.get("matrix", {}).get(axis):
        data["matrix"][axis] = [change(value) for value in values]
    return Suite.model_validate(data)


def suite_hash(suite: Suite) -> str:
    return digest(scrubbed(suite.source()))


def schema_json() -> str:
    """The JSON Schema of a suite file; `suites/suite.schema.json` holds the same."""
    schema = Suite.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
