"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "cases",
        sa.Column("case_id", TEXT, nullable=False),
        sa.Column("config_id", TEXT, nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
    )
    op.create_index("ix_cases_config_id", "cases", ["config_id"])

    op.create_table(
        "environments",
        sa.Column("environment_id", TEXT, nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("environment_id", name=op.f("pk_environments")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("suite", TEXT, nullable=False),
        sa.Column("suite_hash", TEXT, nullable=False),
        sa.Column("suite_source", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("environment_id", TEXT, nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("git_commit", TEXT, nullable=True),
        sa.Column("git_dirty", sa.Boolean(), nullable=True),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.environment_id"], name=op.f("fk_runs_environment_id_environments")
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])
    op.create_index("ix_runs_suite", "runs", ["suite"])

    op.create_table(
        "attempts",
        sa.Column("attempt_id", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("case_id", TEXT, nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("timing", TEXT, nullable=True),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name=op.f("fk_attempts_case_id_cases")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_attempts_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_case_id_started_at", "attempts", ["case_id", "started_at"])
    op.create_index("ix_attempts_run_id_case_id_process", "attempts", ["run_id", "case_id", "process"])

    op.create_table(
        "planned_cases",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("case_id", TEXT, nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name=op.f("fk_planned_cases_case_id_cases")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_planned_cases_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_planned_cases")),
    )
    op.create_index("ix_planned_cases_case_id", "planned_cases", ["case_id"])

    op.create_table(
        "run_events",
        sa.Column("event_id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_run_events_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_run_events")),
    )
    op.create_index("ix_run_events_run_id", "run_events", ["run_id"])

    op.create_table(
        "run_tags",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("tag", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_run_tags_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "tag", name=op.f("pk_run_tags")),
    )
    op.create_index("ix_run_tags_tag", "run_tags", ["tag"])

    op.create_table(
        "attempt_values",
        sa.Column("attempt_id", TEXT, nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_attempt_values_attempt_id_attempts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attempt_id", "metric", name=op.f("pk_attempt_values")),
    )
    op.create_index("ix_attempt_values_metric_attempt_id_value", "attempt_values", ["metric", "attempt_id", "value"])

    op.create_table(
        "failures",
        sa.Column("attempt_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("phase", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("stderr_tail", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_failures_attempt_id_attempts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_failures")),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("attempt_id", TEXT, nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("prompt_index", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.DateTime(), nullable=False),
        sa.Column("scheduled_s", sa.Float(), nullable=False),
        sa.Column("sent_s", sa.Float(), nullable=False),
        sa.Column("first_content_s", sa.Float(), nullable=True),
        sa.Column("last_content_s", sa.Float(), nullable=True),
        sa.Column("event_times_s", sa.LargeBinary(), nullable=False),
        sa.Column("event_tokens", sa.LargeBinary(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("token_source", TEXT, nullable=True),
        sa.Column("finish_reason", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_requests_attempt_id_attempts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_attempt_id_index", "requests", ["attempt_id", "index"])
    op.create_index("ix_requests_sent_at", "requests", ["sent_at"])

    op.create_table(
        "series",
        sa.Column("series_id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("attempt_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("unit", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_series_attempt_id_attempts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_id", name=op.f("pk_series")),
    )
    op.create_index("ix_series_attempt_id", "series", ["attempt_id"])

    op.create_table(
        "contents",
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("prompt", TEXT, nullable=True),
        sa.Column("output", TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.request_id"], name=op.f("fk_contents_request_id_requests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_contents")),
    )
    op.create_table(
        "request_values",
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.request_id"], name=op.f("fk_request_values_request_id_requests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "metric", name=op.f("pk_request_values")),
    )
    op.create_table(
        "samples",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("time_s", sa.Float(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.series_id"], name=op.f("fk_samples_series_id_series"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_id", "time_s", name=op.f("pk_samples")),
    )
    op.create_table(
        "scores",
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("scorer", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("item", TEXT, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.request_id"], name=op.f("fk_scores_request_id_requests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "scorer", "version", "item", name=op.f("pk_scores")),
    )
