"""Entries and their predictions. Boards older than migrations have these tables already."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "entries",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("kind", 16), ("name", 64), ("run", 64), ("task", 160))),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("version", 32), ("fingerprint", 128), ("family", 64))),
        sa.Column("metric", sa.String(64), nullable=False),
        sa.Column("scores", sa.JSON, nullable=False),
        sa.Column("truth", sa.String(64), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("predictions", sa.String(64), sa.ForeignKey("predictions.sha256"), nullable=True),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("problem", sa.String(400), nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_entries_task", "entries", ["task"], if_not_exists=True)
