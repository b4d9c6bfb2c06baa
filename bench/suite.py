"""Suites: YAML with a matrix of axes, validated, and expanded into planned cases. Measuring is left to `bench.sweep`."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, create_model

from bench.catalog import catalog
from bench.engines import ENGINES
from bench.weights import ResolvedModel
from bench.workloads import Prompts, load_prompts, prompt_sets
from results.errors import UsageError
from results.records import Case, PlannedCase, digest
from results.scorers import SCORERS
from results.validation import load_yaml, nearest, validate

Dtype = Literal["fp32", "bf16", "fp16"]
Strict = ConfigDict(extra="forbid", frozen=True)


class Point(BaseModel):
    """A value for each axis and setting; what is not given comes from `defaults`, then from the built-in defaults."""

    model_config = Strict
    model: str | None = Field(None, min_length=1, description="A catalog name, a local folder or file, or hub id@revision.")
    engine: Literal[tuple(ENGINES)] | None = None  # type: ignore[valid-type]
    device: Literal["auto", "cpu", "cuda"] | None = None
    dtype: Dtype | None = Field(None, description="The type of computing.")
    quantization: Dtype | None = Field(None, description="The format of the weights in memory; as `dtype` unless given.")
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(None, description="CPU threads that compute.")
    prompt_tokens: Annotated[int, Field(ge=2)] | None = Field(None, description="Exact prompt length.")
    output_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="Exact output length.")
    processes: Annotated[int, Field(ge=1)] | None = Field(None, description="Processes, the unit of replication.")
    iterations: Annotated[int, Field(ge=1)] | None = Field(None, description="Requests per process at the least.")
    min_seconds: Annotated[FiniteFloat, Field(ge=0)] | None = Field(None, description="Seconds of measuring at the least.")
    warmup: Annotated[int, Field(ge=0)] | None = Field(None, description="Requests before that are not counted.")
    timeout_s: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="Limit of one load and of one case.")


class Include(Point):
    tags: tuple[str, ...] = ()


def _lists() -> dict[str, Any]:
    fields = {}
    for name, field in Point.model_fields.items():
        inner: Any = field.annotation
        fields[name] = (Annotated[list[inner], Field(min_length=1)] | None, Field(None, description=field.description))
    return fields


Matrix: type[BaseModel] = create_model("Matrix", __config__=Strict, **_lists())


class Workload(BaseModel):
    model_config = Strict
    prompts: str = Field("five-questions", description="A built-in set of prompts, or a path beside the suite.")
    prompt_tokens: Annotated[int, Field(ge=2)] | None = Field(None, description="Exact prompt length; own length if absent.")
    prompt_format: Literal["plain", "chat"] = Field("plain", description="Text as it is, or in the model's chat template.")


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
    quality: tuple[Literal[tuple(SCORERS)], ...] = ()  # type: ignore[valid-type]
    quality_tokens: Annotated[int, Field(ge=1)] = Field(64, description="Longest answer of the quality pass.")
    isolation: Literal["load", "case"] = Field("load", description="Whether cases of one load share a process, or none.")
    content: Literal["full", "hash", "none"] = Field("full", description="What is kept of prompts and outputs.")

    def source(self) -> dict[str, Any]:
        """The suite as plain data, without what was not given."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


BUILT_IN = {
    "engine": "transformers", "device": "auto", "dtype": "fp32", "threads": "auto", "output_tokens": 32,
    "processes": 3, "iterations": 3, "min_seconds": 2.0, "warmup": 1, "timeout_s": 300.0,
}  # fmt: skip
SETTINGS = ("processes", "iterations", "min_seconds", "warmup", "timeout_s")


QUALITY_PROMPTS = "five-questions"
"""What a quality pass asks, whatever the suite's speed prompts: scores of different suites stay comparable."""


@dataclass(frozen=True)
class Expansion:
    """What a suite means on this machine."""

    planned: tuple[PlannedCase, ...]
    models: dict[str, ResolvedModel]
    """By `Case.weights`."""
    prompts: dict[str, Prompts]
    """By `Case.workload`."""
    pinned: dict[str, str]
    """References to moving hub revisions → the same at the commit that was found."""


@dataclass(frozen=True)
class Machine:
    """What `auto` means here."""

    device: str
    threads: int


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
    data["defaults"] = data.get("defaults", {}) | overrides
    data["exclude"] = [rule for rule in data.get("exclude", []) if not rule.keys() & overrides.keys()]
    axes = overrides.keys() - set(SETTINGS) - {"model"}
    data["include"] = [one for one in data.get("include", []) if all(one.get(axis) in (None, overrides[axis]) for axis in axes)]
    for part in [data.get("matrix", {}), *data["include"]]:
        for name in overrides:
            part.pop(name, None)
    if not data.get("matrix"):
        data["matrix"] = {name: [value] for name, value in overrides.items() if name not in SETTINGS}
    return validate(data, Suite, "--set")


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
    suite = with_models(suite, lambda reference: absolute(reference, folder, Path.cwd()))
    prompts = suite.workload.prompts
    if prompts not in prompt_sets():
        prompts = absolute(prompts, folder, Path.cwd())
    return suite.model_copy(update={"workload": suite.workload.model_copy(update={"prompts": prompts})})


def with_models(suite: Suite, change: Callable[[str], str]) -> Suite:
    """The suite with every reference to a model changed."""
    data = suite.source()
    for part in [data.get("defaults", {}), *data.get("include", []), *data.get("exclude", [])]:
        if "model" in part:
            part["model"] = change(part["model"])
    if models := data.get("matrix", {}).get("model"):
        data["matrix"]["model"] = [change(model) for model in models]
    return Suite.model_validate(data)


def suite_hash(suite: Suite) -> str:
    return digest(suite.source())


def expand(suite: Suite, machine: Machine, resolve: Callable[[str, str], ResolvedModel]) -> Expansion:
    """The planned cases of a suite, one quality pass per configuration last.

    Args:
        resolve: (reference, field path) → model.

    Raises:
        UsageError: an empty matrix, a duplicate, an exclude that matches nothing, an unknown model or prompt set.
    """
    prompts = load_prompts(suite.workload.prompts)
    models: dict[str, ResolvedModel] = {}

    def model_of(reference: str, where: str) -> ResolvedModel:
        if reference not in models:
            models[reference] = resolve(reference, where)
        return models[reference]

    planned: dict[str, PlannedCase] = {}
    for where, tags, point in _points(suite):
        model = model_of(point["model"], where)
        one = _planned(suite, point, tags, model, machine, prompts)
        if one.case.case_id in planned:
            raise UsageError(f"{suite.name}: {where}: repeats the case {one.label}: remove one of the two.")
        planned[one.case.case_id] = one
    if not planned:
        raise UsageError(f"{suite.name}: no case is left: give `matrix` or `include` some, and `exclude` fewer.")
    asked = load_prompts(QUALITY_PROMPTS)
    return Expansion(
        planned=(*planned.values(), *_quality_passes(suite, list(planned.values()), asked)),
        models={model.weights: model for model in models.values()},
        prompts={one.digest: one for one in (prompts, asked)},
        pinned={text: f"{model.reference}@{model.revision}" for text, model in models.items() if model.revision},
    )


def _points(suite: Suite) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """(field path, tags, values) of each point of the matrix that is not excluded, then of each include."""
    base = BUILT_IN | suite.defaults.model_dump(exclude_none=True)
    axes = suite.matrix.model_dump(exclude_none=True) if suite.matrix else {}
    for name, values in axes.items():
        for position, value in enumerate(values):
            if value in values[:position]:
                raise UsageError(f"{suite.name}: matrix.{name}[{position}]: repeats {value!r}: remove one of the two.")
    unused = dict(enumerate(suite.exclude))
    for indices in itertools.product(*(range(len(values)) for values in axes.values())) if axes else ():
        point = {name: axes[name][index] for name, index in zip(axes, indices, strict=True)}
        hits = [n for n, rule in enumerate(suite.exclude) if _matches(rule, base | point)]
        for hit in hits:
            unused.pop(hit, None)
        if not hits:
            where = f"matrix.model[{indices[list(axes).index('model')]}]" if "model" in axes else "defaults.model"
            yield where, (), _complete(suite, base | point, "matrix")
    if unused:
        raise UsageError(f"{suite.name}: exclude[{min(unused)}]: matches no case of the matrix: correct or remove it.")
    for row, include in enumerate(suite.include):
        values = include.model_dump(exclude_none=True, exclude={"tags"})
        yield f"include[{row}].model", include.tags, _complete(suite, base | values, f"include[{row}]")


def _matches(rule: Point, point: dict[str, Any]) -> bool:
    return all(point.get(name) == value for name, value in rule.model_dump(exclude_none=True).items())


def _complete(suite: Suite, point: dict[str, Any], where: str) -> dict[str, Any]:
    if "model" not in point:
        raise UsageError(f"{suite.name}: {where}.model: is missing: name a model, for example gemma-3-270m.")
    return point


def _planned(
    suite: Suite, point: dict[str, Any], tags: tuple[str, ...], model: ResolvedModel, machine: Machine, prompts: Prompts
) -> PlannedCase:
    device = machine.device if point["device"] == "auto" else point["device"]
    threads = machine.threads if point["threads"] == "auto" else point["threads"]
    case = Case(
        weights=model.weights,
        engine=point["engine"],
        device=device,
        dtype=point["dtype"],
        quantization=point.get("quantization", point["dtype"]),
        source_precision=model.source_precision,
        threads=threads if device == "cpu" else None,
        workload=prompts.digest,
        prompt_format=suite.workload.prompt_format,
        prompt_tokens=point.get("prompt_tokens", suite.workload.prompt_tokens),
        output_tokens=point["output_tokens"],
    )
    settings = {name: point[name] for name in SETTINGS}
    if point["min_seconds"] >= point["timeout_s"]:
        raise UsageError(
            f"{suite.name}: min_seconds {point['min_seconds']:g} must be less than timeout_s {point['timeout_s']:g}."
        )
    return PlannedCase(
        case=case, model=model.name, base_model=model.base, tags=tags, isolated=suite.isolation == "case", **settings
    )


def _quality_passes(suite: Suite, speed: list[PlannedCase], prompts: Prompts) -> list[PlannedCase]:
    """One quality pass per configuration: greedy, to the end of sequence, in one process."""
    if not suite.quality:
        return []
    firsts: dict[str, PlannedCase] = {}
    for one in speed:
        firsts.setdefault(one.case.config_id, one)
    return [
        one.model_copy(
            update={
                "case": one.case.model_copy(
                    update={
                        "purpose": "quality",
                        "workload": prompts.digest,
                        "prompt_tokens": None,
                        "output_tokens": suite.quality_tokens,
                        "stop": "eos",
                    }
                ),
                "processes": 1,
                "iterations": len(prompts.prompts),
                "min_seconds": 0.0,
                "tags": (),
                "scorers": suite.quality,
            }
        )
        for one in firsts.values()
    ]


def schema_json() -> str:
    """The JSON Schema of a suite file; `suites/suite.schema.json` holds the same."""
    schema = Suite.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
