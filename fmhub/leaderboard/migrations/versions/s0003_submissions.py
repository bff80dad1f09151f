"""Targets apart from predictions, who brought an entry, tokens, and what was done again. What stood before stays as it is."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.create_table(
        "targets",
        sa.Column("truth", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("task", 160), ("version", 32), ("fingerprint", 128))),
        sa.Column("split", sa.String(80), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_targets_task", "targets", ["task"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("name", "hash")),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("made", sa.String(20), nullable=False),
        sa.Column("revoked", sa.String(20), nullable=True),
    )
    op.create_table(
        "checks",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("entry", 64), ("kind", 16))),
        sa.Column("scores", sa.JSON, nullable=False),
        sa.Column("agrees", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("at", 20), ("keeper", 64), ("seal", 128))),
    )
    op.create_index("ix_checks_entry", "checks", ["entry"])
    op.add_column("entries", sa.Column("truths", sa.JSON, nullable=True))
    op.add_column("entries", sa.Column("submitter", sa.String(64), nullable=True))
