"""The store's tables, for SQLAlchemy Core. `results/migrations` creates and changes them; a test holds the two together."""

import array
import json
import math
import re
import sys
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


strict_json = partial(json.dumps, allow_nan=False)
"""How JSON columns are written: what is not finite is no JSON, and PostgreSQL refuses it."""


class Text(sa.types.TypeDecorator[str]):
    """Text that compares by its bytes in every database, and comes back as it was.

    PostgreSQL takes no NUL and UTF-8 no lone surrogate, but a model may emit both: they are stored as the noncharacter U+FFFF
    and four hexadecimal digits, and so is U+FFFF itself.
    """

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return sa.String(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else _UNSTORABLE.sub(lambda found: f"\uffff{ord(found.group()):04x}", value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), value)


_UNSTORABLE = re.compile("[\0\ud800-\udfff\uffff]")
_ESCAPED = re.compile("\uffff([0-9a-f]{4})")


class Number(sa.types.TypeDecorator[float]):
    """A finite 8-byte float: of the others SQLite makes NULL or keeps them, and PostgreSQL keeps them."""

    impl = sa.Float
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: sa.Dialect) -> float | None:
        return value if value is None else _finite((value,))[0]


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware datetimes, stored as naive UTC."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Packed(sa.types.TypeDecorator[tuple[float, ...]]):
    """A tuple of numbers as little-endian bytes: 8-byte floats (`d`) or 4-byte integers (`i`)."""

    impl = sa.LargeBinary
    cache_ok = True

    def __init__(self, typecode: str) -> None:
        super().__init__()
        self.typecode = typecode

    def process_bind_param(self, value: tuple[float, ...] | None, dialect: Any) -> bytes | None:
        return None if value is None else self._little(array.array(self.typecode, _finite(value))).tobytes()

    def process_result_value(self, value: bytes | None, dialect: Any) -> tuple[float, ...] | None:
        return None if value is None else tuple(self._little(array.array(self.typecode, value)))

    @staticmethod
    def _little(numbers: "array.array[Any]") -> "array.array[Any]":
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers


def _finite(values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(map(math.isfinite, values)):
        raise ValueError("a number is not finite")
    return values


def _run_key(name: str = "run_id") -> sa.Column[str]:
    return sa.Column(name, Text, sa.ForeignKey("runs.run_id", ondelete="CASCADE"), nullable=False)


environments = sa.Table(
    "environments",
    metadata,
    sa.Column("environment_id", Text, primary_key=True),
    sa.Column("facts", sa.JSON, nullable=False),
)

cases = sa.Table(
    "cases",
    metadata,
    sa.Column("case_id", Text, primary_key=True),
    sa.Column("config_id", Text, nullable=False, index=True),
    sa.Column("facts", sa.JSON, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("suite", Text, nullable=False, index=True),
    sa.Column("suite_hash", Text, nullable=False),
    sa.Column("suite_source", sa.JSON, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("environment_id", Text, sa.ForeignKey("environments.environment_id"), nullable=False),
    sa.Column("command", sa.JSON, nullable=False),
    sa.Column("git_commit", Text),
    sa.Column("git_dirty", sa.Boolean),
    sa.Column("git_branch", Text, index=True),
    sa.Column("paired_with", Text),
    sa.Column("started_at", UtcDateTime, nullable=False, index=True),
)

run_events = sa.Table(
    "run_events",
    metadata,
    sa.Column("event_id", sa.Integer, sa.Identity(), primary_key=True),
    _run_key(),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("detail", Text, nullable=False),
    sa.Index(None, "run_id"),
)

run_tags = sa.Table(
    "run_tags",
    metadata,
    _run_key(),
    sa.Column("tag", Text, nullable=False, index=True),
    sa.PrimaryKeyConstraint("run_id", "tag"),
)

planned_cases = sa.Table(
    "planned_cases",
    metadata,
    _run_key(),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("case_id", Text, sa.ForeignKey("cases.case_id"), nullable=False, index=True),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.PrimaryKeyConstraint("run_id", "position"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("attempt_id", Text, primary_key=True),
    _run_key(),
    sa.Column("case_id", Text, sa.ForeignKey("cases.case_id"), nullable=False),
    sa.Column("process", sa.Integer, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("timing", Text),
    sa.Column("facts", sa.JSON),
    sa.Column("warnings", sa.JSON, nullable=False),
    sa.Index(None, "run_id", "case_id", "process"),
    sa.Index(None, "case_id", "started_at"),
)

failures = sa.Table(
    "failures",
    metadata,
    sa.Column("attempt_id", Text, sa.ForeignKey("attempts.attempt_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("phase", Text, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("stderr_tail", Text, nullable=False),
)

attempt_values = sa.Table(
    "attempt_values",
    metadata,
    sa.Column("attempt_id", Text, sa.ForeignKey("attempts.attempt_id", ondelete="CASCADE"), nullable=False),
    sa.Column("metric", Text, nullable=False),
    sa.Column("value", Number, nullable=False),
    sa.PrimaryKeyConstraint("attempt_id", "metric"),
    sa.Index(None, "metric", "attempt_id", "value"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", Text, primary_key=True),
    sa.Column("attempt_id", Text, sa.ForeignKey("attempts.attempt_id", ondelete="CASCADE"), nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("prompt_index", sa.Integer, nullable=False),
    sa.Column("sent_at", UtcDateTime, nullable=False, index=True),
    sa.Column("scheduled_s", Number, nullable=False),
    sa.Column("sent_s", Number, nullable=False),
    sa.Column("first_content_s", Number),
    sa.Column("last_content_s", Number),
    sa.Column("event_times_s", Packed("d"), nullable=False),
    sa.Column("event_tokens", Packed("i"), nullable=False),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("token_source", Text),
    sa.Column("finish_reason", Text),
    sa.Column("error", Text),
    sa.Index(None, "attempt_id", "index"),
)

request_values = sa.Table(
    "request_values",
    metadata,
    sa.Column("request_id", Text, sa.ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False),
    sa.Column("metric", Text, nullable=False),
    sa.Column("value", Number, nullable=False),
    sa.PrimaryKeyConstraint("request_id", "metric"),
)

contents = sa.Table(
    "contents",
    metadata,
    sa.Column("request_id", Text, sa.ForeignKey("requests.request_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("policy", Text, nullable=False),
    sa.Column("prompt", Text),
    sa.Column("output", Text),
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("request_id", Text, sa.ForeignKey("requests.request_id", ondelete="CASCADE"), nullable=False),
    sa.Column("scorer", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("item", Text, nullable=False),
    sa.Column("value", Number, nullable=False),
    sa.PrimaryKeyConstraint("request_id", "scorer", "version", "item"),
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("series_id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("attempt_id", Text, sa.ForeignKey("attempts.attempt_id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("unit", Text, nullable=False),
    sa.Index(None, "attempt_id"),
)

samples = sa.Table(
    "samples",
    metadata,
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.series_id", ondelete="CASCADE"), nullable=False),
    sa.Column("time_s", Number, nullable=False),
    sa.Column("value", Number, nullable=False),
    sa.PrimaryKeyConstraint("series_id", "time_s"),
)

baselines = sa.Table(
    "baselines",
    metadata,
    sa.Column("move_id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("name", Text, nullable=False, index=True),
    sa.Column("reference", Text),
    sa.Column("run_ids", sa.JSON, nullable=False),
    sa.Column("author", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)

marks = sa.Table(
    "marks",
    metadata,
    sa.Column("mark_id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("case_id", Text, nullable=False, index=True),
    sa.Column("metric", Text, nullable=False),
    sa.Column("run_id", Text),
    sa.Column("author", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
)

calibrations = sa.Table(
    "calibrations",
    metadata,
    sa.Column("calibration_id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("suite", Text, nullable=False, index=True),
    sa.Column("machine_id", Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("found", sa.JSON, nullable=False),
)
