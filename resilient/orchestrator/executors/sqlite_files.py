"""SQLite files, copied by SQLite's own online backup: what others have open stays usable, and is never half done."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resilient.orchestrator.executors.failures import LOOK, ActionFailedError, check, reason
from resilient.orchestrator.executors.keeping import Keeper, like, put
from resilient.orchestrator.model import RecoveryContext

#: What SQLite keeps beside a database: a log or journal with changes of its own, and an index that it can make again.
BESIDE = ("-wal", "-journal", "-shm")
_MAGIC = b"SQLite format 3\0"
_STEP_PAGES = 256
_LOOK_INSTRUCTIONS = 20_000
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_WAITING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def check_source(source: Path, context: RecoveryContext) -> None:
    """Raise ActionFailedError where a file is no whole SQLite database with something in it."""
    if not source.is_file():
        raise ActionFailedError(f"source={source}: there is no such file")
    if source.stat().st_size == 0:
        raise ActionFailedError(f"source={source}: is empty")
    problem = damage(source, context)
    if problem:
        raise ActionFailedError(f"source={source}: is no whole SQLite database: {problem}; the target was not touched")


def damage(file: Path, context: RecoveryContext) -> str | None:
    """What SQLite finds wrong with a file; None where it is whole."""
    try:
        with _opened(file, "ro", context) as connection:
            answer = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        check(context)
        return reason(error)
    return None if answer == "ok" else answer


def save(target: Path, copy: Path, context: RecoveryContext, busy: float) -> None:
    """Keep a database as it is now: by online backup, or where it is damaged, its files byte for byte."""
    if damage(target, context) is None:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        transfer(target, copy, context, busy)
        like(target, copy)
    else:
        _pack(target, copy, context)


def install(source: Path, keeper: Keeper, context: RecoveryContext, busy: float) -> str:
    """Make the target what the source is; returns "online", or "replaced" where the file had to be a new one."""
    if keeper.path.exists():
        try:
            transfer(source, keeper.path, context, busy)
            return "online"
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
    with keeper.new() as file:
        if not keeper.path.exists():  # no more people may read it than the source
            file.chmod(stat.S_IMODE(source.stat().st_mode) & 0o666 | stat.S_IRUSR | stat.S_IWUSR)
        transfer(source, file, context, busy)
        check(context)
        # A log that stayed behind would be played into the new file.
        _remove_beside(keeper.path)
        keeper.swap(file)
    return "replaced"


def put_back(keeper: Keeper, context: RecoveryContext, busy: float) -> bool:
    """Bring back what `save` has kept; False where nothing is."""
    if not keeper.backup.exists():
        return keeper.restore_absence(*BESIDE)
    with keeper.backup.open("rb") as file:
        whole = file.read(len(_MAGIC)) == _MAGIC
    if whole:
        install(keeper.backup, keeper, context, busy)
    else:
        _unpack(keeper)
    keeper.forget()
    _remove_beside(keeper.backup)
    return True


def transfer(source: Path, target: Path, context: RecoveryContext, busy: float) -> None:
    """Copy one database over another, in one transaction of SQLite: it happens as a whole or not at all.

    Waits at most `busy` seconds for others who use the target.
    """
    with _opened(source, "ro", context) as origin, _opened(target, "rw", context) as destination:
        # One picture of the source all the time: otherwise each write of others would make the copy begin anew.
        origin.execute("BEGIN")
        origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        with _same_pages(origin, destination, target):
            origin.backup(destination, pages=_STEP_PAGES, progress=_patience(target, context, busy), sleep=0.02)
        origin.rollback()


def _patience(target: Path, context: RecoveryContext, busy: float) -> Callable[[int, int, int], None]:
    waiting_since: list[float] = []

    def look(status: int, remaining: int, total: int) -> None:
        check(context)
        if status not in _WAITING:
            waiting_since.clear()
            return
        now = time.monotonic()
        if not waiting_since:
            waiting_since.append(now)
        if now - waiting_since[0] >= busy:
            raise ActionFailedError(f"{target}: somebody else has locked the database for {busy:g} s")

    return look


@contextlib.contextmanager
def _same_pages(origin: Any, destination: Any, target: Path) -> Iterator[None]:
    """Let a database with a write-ahead log take pages of another size, which it does only without the log."""

    def ask(connection: Any, pragma: str) -> Any:
        return connection.execute(f"PRAGMA {pragma}").fetchone()[0]

    try:
        differs = ask(destination, "journal_mode") == "wal" and ask(origin, "page_size") != ask(
            destination, "page_size"
        )
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _WAITING:
            raise
        differs = False  # then the copy waits, too
    if not differs:
        yield
        return
    try:
        ask(destination, "journal_mode = DELETE")
    except sqlite3.OperationalError:
        why = "its pages have another size than those of the source, which no process may have it open for"
        raise ActionFailedError(f"{target}: {why}; stop those that use it, in a step before this one") from None
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):  # which then is told of the copy itself
            ask(destination, "journal_mode = WAL")


@contextlib.contextmanager
def _opened(file: Path, mode: str, context: RecoveryContext) -> Iterator[Any]:
    # Where nobody can write, nobody does; and SQLite could not make the files that a log needs.
    log = Path(f"{file}-wal")
    still = mode == "ro" and not os.access(file.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
    how = f"{mode}&immutable=1" if still else mode
    connection = sqlite3.connect(f"{file.as_uri()}?mode={how}", uri=True, timeout=LOOK, isolation_level=None)
    try:
        connection.set_progress_handler(lambda: context.cancelled, _LOOK_INSTRUCTIONS)
        yield connection
    finally:
        connection.close()


# Damaged files --------------------------------------------------------------------------------------


def _pack(target: Path, copy: Path, context: RecoveryContext) -> None:
    """Put the files of a database into one, as they are."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with tarfile.open(copy, "w", format=tarfile.PAX_FORMAT) as archive:
        for ending in ("", *BESIDE):
            check(context)
            part = Path(f"{target}{ending}")
            if part.exists() and ending != "-shm":
                archive.add(part, arcname=f"database{ending}", recursive=False)


def _unpack(keeper: Keeper) -> None:
    """Put the files back, byte for byte."""
    import shutil

    with tarfile.open(keeper.backup) as archive:
        members = {member.name.removeprefix("database"): member for member in archive}
        _remove_beside(keeper.path)
        for ending, member in members.items():
            content = archive.extractfile(member)
            assert content is not None
            with keeper.new() as file:
                with file.open("wb") as opened:
                    shutil.copyfileobj(content, opened)
                file.chmod(member.mode)
                if hasattr(os, "chown"):
                    with contextlib.suppress(PermissionError):
                        os.chown(file, member.uid, member.gid)
                put(file, Path(f"{keeper.path}{ending}"))


def _remove_beside(target: Path) -> None:
    for ending in BESIDE:
        Path(f"{target}{ending}").unlink(missing_ok=True)
