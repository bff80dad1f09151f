"""The board's tables. SQLite by default; any other database through its URL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from fmhub.errors import FmhubError
from fmhub.home import home, make_folder

METADATA = sa.MetaData()

PREDICTIONS = sa.Table(
    "predictions",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="a prediction table as parquet, without the inputs"),
)

ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True, comment="order of arrival"),
    sa.Column("id", sa.String(64), nullable=False, unique=True, comment="hash of what the entry is, without its scores"),
    sa.Column("kind", sa.String(16), nullable=False, comment="run or baseline"),
    sa.Column("name", sa.String(64), nullable=False, comment="a run's id or a baseline's name"),
    sa.Column("run", sa.String(64), nullable=False, comment="the run that it came from"),
    sa.Column("task", sa.String(160), nullable=False, index=True, comment="plugin:task"),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("family", sa.String(64), nullable=False),
    sa.Column("metric", sa.String(64), nullable=False, comment="the one that ranks"),
    sa.Column("scores", sa.JSON, nullable=False, comment="{split: {metric: {value, low, high, n}}}, recomputed here"),
    sa.Column("truth", sa.String(64), nullable=False, comment="hash of the test part's ids and targets"),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("predictions", sa.String(64), sa.ForeignKey("predictions.sha256"), nullable=True),
    sa.Column("manifest", sa.JSON, nullable=False, comment="backbone, recipe, data, cost, environment, hashes"),
    sa.Column("problem", sa.String(400), nullable=False, comment="why it is not ranked, or empty"),
)


@contextlib.contextmanager
def database() -> Iterator[sa.Engine]:
    """The board: `FMHUB_DATABASE`, or SQLite in the home (WAL, synchronous=FULL); its tables are made if absent.

    What the database refuses is an `FmhubError` of one line.
    """
    url = os.environ.get("FMHUB_DATABASE") or f"sqlite:///{make_folder(home()) / 'board.sqlite'}"
    try:
        engine = sa.create_engine(url)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise FmhubError(f"FMHUB_DATABASE cannot be used: {_line(error)}.") from None
    try:
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _safe)
        _make_tables(engine)
        yield engine
    except sa.exc.SQLAlchemyError as error:
        raise FmhubError(f"The board's database refused: {_line(error)}.") from None
    finally:
        engine.dispose()


def _make_tables(engine: sa.Engine) -> None:
    """`create_all` looks first and then creates, which two processes may do at once; this cannot fail for that."""
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))


def _line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")


def _safe(connection: Any, _: Any) -> None:
    """An acknowledged row survives a power cut; a second writer waits instead of failing."""
    for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()
