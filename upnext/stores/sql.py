"""What the SQLAlchemy adapters share: how one is opened, the engine, the tables, migrations, upserts, errors.

One adapter serves SQLite and PostgreSQL; only the upsert's dialect differs. The tables are made by the
migrations in ``upnext/stores/migrations``: an embedded SQLite database is upgraded when it is opened, a
server's when its owner says so (:func:`migrate`), so that no process changes tables that others still use.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from upnext.errors import StoreError, StoreReadOnly, StoreUnavailable
from upnext.settings import Settings
from upnext.stores.local import prepare_folder
from upnext.stores.sqlite import BUSY_S, scrub, sqlite_errors
from upnext.stores.urls import local_path, masked

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0005"
"""Revision of the newest migration: what this program expects to find."""
ROWS = 20_000
"""Rows turned into Python objects at once."""
CONNECT_S = 5
"""Seconds that a server may take to answer a new connection, unless its URL has a ``connect_timeout``."""
UPGRADING = 0x75706E65
"""Key of the lock that whoever upgrades a server's tables holds."""
NO_TABLE, READ_ONLY = "42P01", "25006"
"""PostgreSQL's codes for a table that is not there, and for a write to a replica."""


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC; on SQLite, which knows no zones, stored without and read back with it."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


Key = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
"""An id, ordered by its bytes on every system."""

BARRED = sa.text("status <> 'active' OR (age_restricted AND told)")
"""Videos that are not for everybody: word for word the condition of their index, or it would not be used."""
METADATA = sa.MetaData()
VIDEO_TABLE = sa.Table(
    "videos",
    METADATA,
    sa.Column("video_id", Key, primary_key=True),
    sa.Column("title", sa.Text),
    sa.Column("tags", sa.JSON),
    sa.Column("category", sa.String(64)),
    sa.Column("creator_id", sa.String(128)),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("uploaded_at", UtcTime),
    sa.Column("language", sa.String(64)),
    sa.Column("region", sa.String(64)),
    sa.Column("thumbnail_url", sa.Text),
    sa.Column("age_restricted", sa.Boolean),
    sa.Column("made_for_kids", sa.Boolean),
    sa.Column("blocked_regions", sa.JSON),
    sa.Column("status", sa.String(16)),
    sa.Column("told", sa.Boolean, nullable=False),
    sa.Column("told_at", UtcTime),
    sa.Index("videos_told_at", "told_at"),
    sa.Index(
        "videos_barred",
        *("video_id", "status", "age_restricted"),
        sqlite_where=BARRED,
        postgresql_where=BARRED,
    ),
)
"""Columns of :data:`upnext.contracts.VIDEOS`; ``told``: by the platform itself, not by the lake; ``told_at``:
when, by the clock of the process that wrote it."""
USER_TABLE = sa.Table(
    "users",
    METADATA,
    sa.Column("user_id", Key, primary_key=True),
    sa.Column("region", sa.String(64)),
    sa.Column("language", sa.String(64)),
    sa.Column("device", sa.String(64)),
    sa.Column("age_group", sa.String(64)),
    sa.Column("topics", sa.JSON),
    sa.Column("segments", sa.JSON),
    sa.Column("kids_mode", sa.Boolean),
    sa.Column("created_at", UtcTime),
    sa.Column("told", sa.Boolean, nullable=False),
)
"""Columns of :data:`upnext.contracts.USERS`, and ``told`` as for videos."""
KEY_TABLE = sa.Table(
    "keys",
    METADATA,
    sa.Column("key_id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
)
ERASURE_TABLE = sa.Table(
    "erasures",
    METADATA,
    sa.Column("person", sa.String(64), primary_key=True),
    sa.Column("erased_at", UtcTime, nullable=False),
)
EXPERIMENT_TABLE = sa.Table(
    "experiments",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("definition", sa.JSON, nullable=False),
)
HOLDOUT_TABLE = sa.Table(
    "holdouts",
    METADATA,
    sa.Column("layer", sa.String(64), primary_key=True),
    sa.Column("share", sa.Float, nullable=False),
)
EXPOSURE_TABLE = sa.Table(
    "exposures",
    METADATA,
    sa.Column("date", sa.String(10), primary_key=True),
    sa.Column("experiment", sa.String(64), primary_key=True),
    sa.Column("user_id", Key, primary_key=True),
    sa.Column("variant", sa.String(64), nullable=False),
    sa.Column("exposed_at", UtcTime, nullable=False),
    sa.Index("exposures_user", "user_id"),
)
"""Columns of :data:`upnext.contracts.EXPOSURES`."""


class Database:
    """An engine whose tables are as this program expects, and whose errors are Upnext's."""

    def __init__(self, url: str) -> None:
        self.name = masked(url)
        self._path = local_path(url)
        if self._path:
            prepare_folder(self._path.parent)
        with self.errors():
            self.engine = _engine(url, embedded=self._path is not None)
        if self._path:
            with self.errors():
                upgrade(self.engine)

    def ping(self) -> str:
        with self.errors(), self.engine.connect() as connection:
            version = ".".join(map(str, self.engine.dialect.server_version_info or ())) or "unknown version"
            found = revision(connection)
        if found != HEAD:
            remedy = "" if self._path else ": run `upnext migrate`"
            raise StoreError(
                f"{self.name} is at migration {found or 'none'}, this program needs {HEAD}{remedy}"
            )
        return f"{self.engine.dialect.name} {version}, migration {found}"

    def close(self) -> None:
        self.engine.dispose()

    def upsert(self, table: sa.Table, rows: pa.Table, *, told: bool) -> None:
        """Insert rows, replacing those whose primary key is there; all or none.

        Rows that the platform ``told`` are replaced only by what it tells again.
        """
        statement = self.insert(table)
        keys = [column.name for column in table.primary_key]
        others = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
        free = None if told else table.c.told.is_(sa.false())
        statement = statement.on_conflict_do_update(index_elements=keys, set_=others, where=free)
        with self.errors(), self._writing() as connection:
            marks: dict[str, object] = {"told": told}
            if "told_at" in table.c:
                marks["told_at"] = datetime.now(UTC) if told else None
            for batch in rows.to_batches(max_chunksize=ROWS):
                if batch.num_rows:
                    connection.execute(statement, [row | marks for row in batch.to_pylist()])

    def pages(self, table: sa.Table, schema: pa.Schema, batch: int) -> Iterator[pa.Table]:
        """Every row in the columns of a schema, ordered by the first of them, the key."""
        columns = [table.c[name] for name in schema.names]
        page = sa.select(*columns).order_by(columns[0]).limit(batch)
        last = ""
        while rows := self.rows(page.where(columns[0] > last)):
            yield table_of(rows, schema)
            last = rows[-1][0]

    def rows(
        self, query: sa.Select[Any], values: Mapping[str, object] | None = None
    ) -> Sequence[sa.Row[Any]]:
        """All that a query finds, with ``values`` for its parameters."""
        with self.errors(), self.engine.connect() as connection:
            return connection.execute(query, values).all()

    def change(self, statement: sa.Executable) -> int:
        """Run one statement that writes; says how many rows it changed."""
        with self.errors(), self.engine.begin() as connection:
            return int(connection.execute(statement).rowcount)

    def erase(self, statement: sa.Executable) -> int:
        """As :meth:`change`; of what it deletes or replaces no SQLite file keeps anything."""
        changed = self.change(statement)
        if self._path:
            with self.errors(), sqlite_errors(self._path), closing(self.engine.raw_connection()) as raw:
                scrub(raw.driver_connection)  # SQLAlchemy's own would begin a transaction first
        return changed

    def replace(self, table: sa.Table, row: Mapping[str, object]) -> None:
        """Insert a row, or put its values in place of those of the row with its primary key."""
        keys = [column.name for column in table.primary_key]
        others = {name: value for name, value in row.items() if name not in keys}
        new = self.insert(table).values(row)
        self.change(new.on_conflict_do_update(index_elements=keys, set_=others))

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that has waited for other writers before it begins, so that it knows its time."""
        waiting = self.engine.execution_options(upnext_begin="IMMEDIATE")
        with waiting.begin() as connection:
            yield connection

    def insert(self, table: sa.Table) -> Any:
        """An insert in the engine's dialect, which knows ``ON CONFLICT``."""
        make = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        return make(table)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Map what SQLAlchemy raises to Upnext's errors."""
        try:
            yield
        except DBAPIError as error:
            if self._path and error.orig is not None:
                with sqlite_errors(self._path):
                    raise error.orig from error
            code = getattr(error.orig, "sqlstate", None)
            if code == READ_ONLY:
                raise StoreReadOnly(f"{self.name} is a replica or read-only: name the primary") from error
            if code == NO_TABLE:
                raise StoreError(f"{self.name} lacks our tables: run `upnext migrate`") from error
            if error.connection_invalidated or isinstance(error, sa.exc.OperationalError):
                raise StoreUnavailable(f"{self.name} does not answer: {error.orig}") from error
            raise StoreError(f"{self.name}: {error.orig}") from error
        except (SQLAlchemyError, ImportError) as error:
            raise StoreError(f"{self.name}: {error}") from error


class SqlStore:
    """A port's adapter over one :class:`Database`: how each is opened, asked for life and closed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(Database(url))

    def ping(self) -> str:
        return self._database.ping()

    def close(self) -> None:
        self._database.close()


def table_of(rows: Sequence[sa.Row[Any]], schema: pa.Schema) -> pa.Table:
    """Rows of a query as an Arrow table."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pa.table([list(column) for column in columns], schema=schema)


def migrate(url: str) -> str:
    """Bring a database's tables to :data:`HEAD`, and say what it is and has then."""
    database = Database(url)
    try:
        with database.errors():
            upgrade(database.engine)
        return database.ping()
    finally:
        database.close()


def upgrade(engine: sa.Engine) -> None:
    """Run the migrations that a database lacks; processes that come at once wait for the first."""
    with engine.connect() as connection:
        if revision(connection) == HEAD:
            return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.connect().execution_options(upnext_begin="IMMEDIATE") as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADING)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"{engine.url!r} cannot be brought to migration {HEAD}: {error}") from error


def revision(connection: sa.Connection) -> str | None:
    """The newest migration that a database has seen; None for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _engine(url: str, *, embedded: bool) -> sa.Engine:
    wait = {"timeout": BUSY_S} if embedded else {"connect_timeout": CONNECT_S}
    given = sa.make_url(url).query
    engine = sa.create_engine(
        url,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={name: value for name, value in wait.items() if name not in given},
        pool_pre_ping=not embedded,
    )
    if embedded:
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, record: object) -> None:
    connection.isolation_level = None  # or the driver would commit before each statement that makes a table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")


def _begin(connection: sa.Connection) -> None:
    kind = connection.get_execution_options().get("upnext_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
