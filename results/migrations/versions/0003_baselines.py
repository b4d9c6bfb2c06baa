"""What people decide about results: baselines, marks on changes; what calibrations found; and which branch a run was made on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("runs", sa.Column("git_branch", TEXT, nullable=True))
    op.add_column("runs", sa.Column("paired_with", TEXT, nullable=True))
    op.create_index("ix_runs_git_branch", "runs", ["git_branch"])
    op.create_table(
        "baselines",
        sa.Column("move_id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("reference", TEXT, nullable=True),
        sa.Column("run_ids", sa.JSON(), nullable=False),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("move_id", name=op.f("pk_baselines")),
    )
    op.create_index("ix_baselines_name", "baselines", ["name"])
    op.create_table(
        "marks",
        sa.Column("mark_id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("case_id", TEXT, nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=True),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("mark_id", name=op.f("pk_marks")),
    )
    op.create_index("ix_marks_case_id", "marks", ["case_id"])
    op.create_table(
        "calibrations",
        sa.Column("calibration_id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("suite", TEXT, nullable=False),
        sa.Column("machine_id", TEXT, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("calibration_id", name=op.f("pk_calibrations")),
    )
    op.create_index("ix_calibrations_suite", "calibrations", ["suite"])
