"""The board's tables. SQLite by default; any other database through its URL."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
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
    sa.Column("content", sa.LargeBinary, nullable=False, doc="what an entry predicts, as parquet: see `parts.PREDICTED`"),
)

TARGETS = sa.Table(
    "targets",
    METADATA,
    sa.Column("truth", sa.String(64), primary_key=True, doc="hash of one split's ids and targets"),
    sa.Column("task", sa.String(160), nullable=False, index=True),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("split", sa.String(80), nullable=False, doc="a split that is named `hidden` has targets that nobody else is shown"),
    sa.Column("content", sa.LargeBinary, nullable=False, doc="id, group, target as parquet; no target where the licence forbids copies"),
)

ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True, doc="order of arrival"),
    sa.Column("id", sa.String(64), nullable=False, unique=True, doc="hash of what the entry is, without its scores"),
    sa.Column("kind", sa.String(16), nullable=False, doc="run or baseline"),
    sa.Column("name", sa.String(64), nullable=False, doc="a run's id or a baseline's name"),
    sa.Column("run", sa.String(64), nullable=False, doc="the run that it came from"),
    sa.Column("task", sa.String(160), nullable=False, index=True, doc="plugin:task"),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("family", sa.String(64), nullable=False),
    sa.Column("metric", sa.String(64), nullable=False, doc="the one that ranks"),
    sa.Column("scores", sa.JSON, nullable=False, doc="{split: {metric: {value, low, high, n}}}, recomputed here"),
    sa.Column("truth", sa.String(64), nullable=False, doc="hash of the test part's ids and targets"),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("predictions", sa.String(64), sa.ForeignKey("predictions.sha256"), nullable=True),
    sa.Column("manifest", sa.JSON, nullable=False, doc="backbone, recipe, data, cost, environment, hashes"),
    sa.Column("problem", sa.String(400), nullable=False, doc="why it is not ranked, or empty"),
    sa.Column("truths", sa.JSON(none_as_null=True), nullable=True, doc="{split: truth} of the targets that it was scored with"),
    sa.Column("submitter", sa.String(64), nullable=True, doc="whose token brought it; null for the board's keeper"),
)

LOG = sa.Table(
    "log",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False, doc="1, 2, 3, ... without a gap"),
    sa.Column("entry", sa.String(64), nullable=False, unique=True, doc="the entry's id"),
    sa.Column("content", sa.String(64), nullable=False, doc="hash of the entry's whole row"),
    sa.Column("signer", sa.String(64), nullable=False, doc="the submitter's public key"),
    sa.Column("signature", sa.String(128), nullable=False, doc="the submitter's, of what the entry claims to be"),
    sa.Column("at", sa.String(20), nullable=False, doc="when it came, UTC"),
    sa.Column("previous", sa.String(64), nullable=False, doc="the hash of the row before"),
    sa.Column("hash", sa.String(64), nullable=False, doc="of all the columns above"),
    sa.Column("keeper", sa.String(64), nullable=False, doc="the board's public key"),
    sa.Column("seal", sa.String(128), nullable=False, doc="the board's signature of number and hash"),
)

TOKENS = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True, doc="the public half of the token"),
    sa.Column("name", sa.String(64), nullable=False, doc="the submitter"),
    sa.Column("hash", sa.String(64), nullable=False, doc="sha256 of the secret half, which is kept nowhere"),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("made", sa.String(20), nullable=False),
    sa.Column("revoked", sa.String(20), nullable=True),
)

CHECKS = sa.Table(
    "checks",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("entry", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False, doc="rerun or retrain"),
    sa.Column("scores", sa.JSON, nullable=False, doc="{metric: {value, low, high, n}} of the test part, done again"),
    sa.Column("agrees", sa.Boolean, nullable=False),
    sa.Column("at", sa.String(20), nullable=False),
    sa.Column("keeper", sa.String(64), nullable=False),
    sa.Column("seal", sa.String(128), nullable=False, doc="the keeper's signature of all the columns above"),
)

HEAD = "0003"
"""The newest migration."""
LOCK = 0x666D687562
"""PostgreSQL's advisory lock of whoever writes."""


@contextlib.contextmanager
def database() -> Iterator[sa.Engine]:
    """The board: `FMHUB_DATABASE`, or SQLite in the home (WAL, synchronous=FULL); its tables are made or brought up to date.

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
            event.listen(engine, "begin", _begin)
        _migrate(engine)
        yield engine
    except sa.exc.SQLAlchemyError as error:
        raise FmhubError(f"The board's database refused: {_line(error)}.") from None
    except json.JSONDecodeError:
        raise FmhubError("The board holds a row that cannot be read: `fmhub leaderboard verify --all` names it.") from None
    finally:
        engine.dispose()


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that nobody else writes beside: all of it stands, or nothing."""
    with engine.execution_options(fmhub_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        yield connection


def _migrate(engine: sa.Engine) -> None:
    """Bring the tables up to date in one transaction, so that a kill at any step leaves what was there before."""
    with engine.connect() as connection:
        if _version(connection) == HEAD:
            return
    from alembic import command, util
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, HEAD)
        except util.CommandError:
            raise FmhubError("The board was made by a newer fmhub: update fmhub, or name another board with FMHUB_DATABASE.") from None


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")


def _safe(connection: Any, _: Any) -> None:
    """An acknowledged row survives a power cut; a second writer waits instead of failing."""
    connection.isolation_level = None  # else sqlite3 would not begin a transaction before tables are changed
    for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    """A writer takes its lock at once: one that read first could not get it any more."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("fmhub_writes") else "BEGIN")
