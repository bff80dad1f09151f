"""The log: what stands on the board already is signed by its keeper, in order of arrival."""

import sqlalchemy as sa
from alembic import op

from fmhub.leaderboard import log

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    table = op.create_table(
        "log",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("entry", sa.String(64), nullable=False, unique=True),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("content", 64), ("signer", 64), ("signature", 128))),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("at", 20), ("previous", 64), ("hash", 64))),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in (("keeper", 64), ("seal", 128))),
    )
    entries = sa.table(
        "entries", *(sa.column(name) for name in ("number", *log.CLAIMED, "problem")), sa.column("scores", sa.JSON),
    )  # fmt: skip
    whole = sa.select(
        *(sa.type_coerce(column, sa.JSON).label(column.name) if column.name in ("labels", "manifest") else column for column in entries.c)
    )
    for row in list(op.get_bind().execute(whole.order_by(entries.c.number)).mappings()):
        log.append(op.get_bind(), dict(row), table=table)
