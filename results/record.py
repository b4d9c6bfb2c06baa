"""What all records share: frozen plain data with a hash and a JSON form that names its schema."""

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, FiniteFloat

SCHEMA_VERSION = 1

Scalar = str | int | FiniteFloat | bool | None
Values = dict[str, FiniteFloat]


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
