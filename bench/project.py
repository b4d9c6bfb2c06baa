"""A project's defaults: `gemmeter.toml`, or `[tool.gemmeter]` of `pyproject.toml`, in the current folder and nowhere above it.

What the command line, the environment or a suite says goes before them; which that is, is left to the callers.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, FiniteFloat, field_validator

from results.errors import UsageError
from results.limits import parse_limits
from results.validation import validate

if TYPE_CHECKING:
    from bench.suite import Suite

OWN, SHARED = "gemmeter.toml", "pyproject.toml"


class Project(BaseModel):
    """What a project says once instead of on each command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    store: Annotated[str, Field(min_length=1)] | None = None
    """A URL without a password, or a path from the current folder."""
    price_per_hour: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Of the machine, in any one currency."""
    limits: Annotated[str, Field(min_length=1)] | None = None
    """What a request must keep to count for the goodput."""
    tags: tuple[str, ...] = ()
    memory_limit: Annotated[ByteSize, Field(gt=0)] | None = None
    """Resident memory at which a case ends as `oom`."""

    @field_validator("store")
    @classmethod
    def _without_password(cls, store: str | None) -> str | None:
        address = urlsplit(store or "")
        if address.password or "password" in parse_qs(address.query):
            raise ValueError("holds a password, and files are shared: give the URL by the environment variable BENCH_STORE.")
        return store

    @field_validator("limits")
    @classmethod
    def _well_formed(cls, limits: str | None) -> str | None:
        try:
            terms = parse_limits(limits).terms if limits else ()
        except UsageError as error:
            raise ValueError(str(error)) from error
        if odd := next((term for term in terms if term.percentile is not None), None):
            raise ValueError(f"{odd.text} has a percentile, but each request keeps limits or not: leave it out.")
        return limits


@dataclass(frozen=True)
class Found:
    """A project's defaults, and where they stand."""

    project: Project
    path: Path | None = None
    """`None`: no file has any."""
    shadowed: bool = False
    """Whether `pyproject.toml` has some too, which count for nothing."""


def find_project(folder: Path) -> Found:
    """The defaults that stand in this folder.

    Raises:
        UsageError: the file is no TOML, or has wrong keys or values; each with its path.
    """
    own, shared = folder / OWN, folder / SHARED
    if own.is_file():
        return Found(validate(_toml(own), Project, OWN), own, shadowed=_table(shared, strict=False) is not None)
    table = _table(shared, strict=True)
    return Found(Project()) if table is None else Found(validate(table, Project, f"{SHARED} [tool.gemmeter]"), shared)


def with_defaults(suite: "Suite", project: Project) -> "Suite":
    """The suite with the project's limits, price and memory limit where it says nothing of them itself."""
    ours = {"price_per_hour": project.price_per_hour, "memory_limit": project.memory_limit}
    point = {name: value for name, value in ours.items() if value is not None and getattr(suite.defaults, name) is None}
    changes = {"defaults": suite.defaults.model_copy(update=point), "limits": suite.limits or project.limits}
    return suite.model_copy(update=changes)


def _table(path: Path, *, strict: bool) -> Any:
    """`[tool.gemmeter]`; `None` without it, and unless `strict` also in a file that is no TOML."""
    if not path.is_file():
        return None
    try:
        tools = _toml(path).get("tool")
    except UsageError:
        if strict:
            raise
        return None
    return tools.get("gemmeter") if isinstance(tools, dict) else None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
