"""Turns pydantic's findings about a YAML file into sentences with field paths and the nearest right name."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ByteSize, TypeAdapter, ValidationError

from results.errors import UsageError

M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path, model: type[M]) -> M:
    """Read and validate a YAML file.

    Raises:
        UsageError: no such file, no YAML, or fields that `model` refuses; every finding with its path.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}.") from error
    return parse_yaml(text, model, str(path))


def parse_yaml(text: str, model: type[M], source: str) -> M:
    """Like `load_yaml`, from text; `source` names it in messages."""
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 a SafeLoader
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" line {place.line + 1}" if place else ""
        raise UsageError(f"{source}{line}: not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{source}: not valid YAML: {str(error) or type(error).__name__}.") from error
    if not isinstance(data, dict):
        raise UsageError(f"{source}: expected a mapping of keys to values, found {_kind(data)}.")
    return validate(data, model, source)


def validate(data: dict[str, Any], model: type[M], source: str) -> M:
    """The model from plain data.

    Raises:
        UsageError: with one line per finding.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        firsts: dict[str, str] = {}
        for one in error.errors():
            firsts.setdefault(field_path(_without_union_tags(one["loc"], model, one["type"])), _finding(one, model))
        raise UsageError("\n".join(f"{source}: {finding}" for finding in firsts.values())) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest known name, else the list of those that exist."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f": choose from {', '.join(known)}."


def field_path(location: Iterable[str | int]) -> str:
    """`("matrix", "dtype", 2)` → `matrix.dtype[2]`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _finding(error: Any, model: type[BaseModel]) -> str:
    location = _without_union_tags(error["loc"], model, error["type"])
    path, given, kind = field_path(location), error["input"], error["type"]
    if kind == "extra_forbidden":
        return f"{path}: unknown key{nearest(str(location[-1]), _keys(model, location[:-1]))}"
    if kind == "missing":
        return f"{path}: is missing."
    if kind == "literal_error":
        known = [one.strip(" '") for one in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{path}: unknown {location_name(location)} {given!r}{nearest(str(given), known)}"
    if kind == "too_short":
        return f"{path}: is empty: give at least one value."
    if kind == "value_error":
        return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if kind.startswith("byte_size"):
        return f"{path}: {given!r} is no size: write it such as 8GiB or 500MB."
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: {message}, found {_kind(given)}."


def _without_union_tags(location: tuple[str | int, ...], model: type[BaseModel], kind: str) -> tuple[str | int, ...]:
    """The path in the file: pydantic adds the alternatives of a union that it tried."""
    kept: list[str | int] = []
    for number, part in enumerate(location):
        known = isinstance(part, int) or part in _keys(model, tuple(kept))
        if known or (kind == "extra_forbidden" and number == len(location) - 1):
            kept.append(part)
    return tuple(kept)


def location_name(location: tuple[str | int, ...]) -> str:
    """The last name on a path, for messages such as "unknown dtype"."""
    return next((part for part in reversed(location) if isinstance(part, str)), "value")


def _keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that the model knows at this place."""
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one))), None)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would silently drop."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_size(text: str, where: str) -> int:
    """Bytes of a size such as `8GiB`, `500MB` or `1073741824`.

    Raises:
        UsageError: it is none, or not above zero; the message begins with `where`.
    """
    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        size = ByteSize(0)
    if size <= 0:
        raise UsageError(f"{where} {text}: is no size: write it such as 8GiB or 500MB.")
    return int(size)
