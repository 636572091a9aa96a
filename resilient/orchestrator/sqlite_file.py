"""A SQLite file of ours: told from others before it is touched, written in whole transactions, safe across forks."""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from resilient.orchestrator.errors import JournalError
from resilient.orchestrator.forks import Survivor, tell_of_forks

#: In the header of the file, so that a file of somebody else is known before SQLite opens it: "RSLJ".
APPLICATION_ID = 0x52534C4A
VERSION = 1
PATIENCE = 30.0  # seconds to wait for another process that writes

_MAGIC = b"SQLite format 3\0"

_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FORK_PATIENCE = 5.0  # seconds that a fork waits for a write to end

#: Connections that a fork has copied in use: closing one in the child could end the locks of the parent.
_left_alone: list[sqlite3.Connection] = []


class SqliteFile(Survivor):
    """A SQLite database with the tables of `schema`, for several processes of one machine at the same time.

    `create=False` refuses a path where there is none yet.
    """

    schema: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        name: Any = os.fspath(path)
        if not isinstance(name, str) or not name.strip() or name == ":memory:" or "\0" in name:
            raise JournalError(f"path={name!r}: must be the name of a file; in memory there is MemoryJournal()")
        self.path = Path(name).absolute()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened = 0
        self._place: tuple[int, int] | None = None
        self._writes = False
        self._check_file(create)
        with self._session():
            pass
        tell_of_forks(self)

    # Opening

    def _check_file(self, create: bool) -> None:
        """Refuse what is not a journal before SQLite has touched it."""
        try:
            with self.path.open("rb") as file:
                header = file.read(100)
        except FileNotFoundError:
            if not create:
                raise JournalError(f"{self.path}: there is no journal") from None
            self._create()
            return
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        if not header:
            return  # made by hand; the tables are made when it is opened
        if header[:16] != _MAGIC:
            raise JournalError(f"{self.path}: is not a journal of recoveries; it was left as it is")
        if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
            raise JournalError(f"{self.path}: is a SQLite database of something else; it was left as it is")
        version = int.from_bytes(header[60:64], "big")
        if version != VERSION:
            raise JournalError(
                f"{self.path}: has version {version} of the journal, and this package reads {VERSION}; left as it is"
            )
        self._check_pages()

    def _create(self) -> None:
        """Make the file under another name first, so that whoever finds it finds all of it."""
        if not self.path.parent.is_dir():
            raise JournalError(f"{self.path}: cannot be made, as {self.path.parent} is not a directory")
        draft = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            self._open(draft).close()
            # It holds parameters; whoever wants others to approve lets them write to it. SQLite's other files follow.
            draft.chmod(0o600)
            _publish(draft, self.path)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"{self.path}: cannot be made: {error}") from None
        finally:
            for rest in ("", "-wal", "-shm", "-journal"):
                Path(f"{draft}{rest}").unlink(missing_ok=True)

    def _check_pages(self) -> None:
        """Refuse a damaged file, which must not be written to any further."""
        log = Path(f"{self.path}-wal")
        # Where nobody has it open, it is looked at without the files that SQLite would put beside it.
        found = "" if log.exists() else self._damage("immutable=1")
        if log.exists():
            found = self._damage("mode=ro")
        if found:
            raise JournalError(f"{self.path}: is damaged ({found}); it was left as it is")

    def _damage(self, how: str) -> str:
        """What is wrong with the pages of the file; empty if nothing."""
        try:
            with closing(sqlite3.connect(f"{self.path.as_uri()}?{how}", uri=True, timeout=PATIENCE)) as connection:
                found: str = connection.execute("pragma quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                return str(error)
            raise JournalError(f"{self.path}: cannot be used: {error}") from None
        return "" if found == "ok" else found

    def _open(self, path: Path) -> sqlite3.Connection:
        # Autocommit: transactions are begun by hand, so that they take the write lock at once.
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("pragma synchronous = full")
            self._make_tables(connection)
            connection.execute("pragma journal_mode = wal")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if connection.execute("pragma application_id").fetchone()[0] == APPLICATION_ID:
            return
        connection.execute("begin exclusive")
        # Somebody else may have made them while we waited.
        if connection.execute("pragma application_id").fetchone()[0] != APPLICATION_ID:
            for statement in _statements(self.schema):
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            connection.execute(f"pragma user_version = {VERSION}")
        connection.execute("commit")

    def _reopened(self) -> sqlite3.Connection:
        if self._place is not None:
            self._check_place()  # or SQLite would make a new file
        connection = self._open(self.path)
        found = os.stat(self.path)
        self._place = found.st_dev, found.st_ino
        self._opened += 1
        return connection

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; what goes wrong is told with the file's name."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._reopened()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                failure = JournalError(f"{self.path}: {error}")
                failure.transient = getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING
                raise failure from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, with nobody else writing."""
        with self._session() as connection:
            if self._writes:
                # A signal handler, or the garbage collector, in the middle of it: what it wrote would get lost.
                raise JournalError(f"{self.path}: this thread is writing to it already; leave it to another thread")
            self._writes = True
            try:
                if connection.in_transaction:  # Ctrl-C came at the worst moment
                    connection.execute("rollback")
                connection.execute("begin immediate")
                yield connection
                self._check_place()
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            finally:
                self._writes = False

    def _check_place(self) -> None:
        """Refuse to write to a file that is not there any more: nobody would ever read it."""
        try:
            found = os.stat(self.path)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._place:
            self.close()
            raise JournalError(f"{self.path}: was moved, deleted or replaced while it was in use")

    # Leaving

    def close(self) -> None:
        """Close the file; using the journal opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> bool:
        """Close the file, and let nobody open it: a child would inherit SQLite's book of locks without the locks."""
        if not self._lock.acquire(timeout=_FORK_PATIENCE):
            return False
        self.close()
        return True

    def after_fork_in_parent(self) -> None:
        """Let threads go on, which open the file again."""
        self._lock.release()

    def after_fork(self) -> None:
        """Open the file anew in a forked child, when it is needed."""
        self._lock = threading.RLock()
        self._writes = False
        connection, self._connection = self._connection, None
        if connection is not None:
            _left_alone.append(connection)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


def _publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless somebody else was quicker."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            os.replace(draft, path)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit the transaction it is to be part of."""
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
