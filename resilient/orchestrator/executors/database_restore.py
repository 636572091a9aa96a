"""The executor of `database_restore` steps: brings a backup of a database back, or makes one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from resilient.orchestrator.executors import postgres
from resilient.orchestrator.executors.failures import ActionFailedError, check, reason
from resilient.orchestrator.executors.keeping import Keeper
from resilient.orchestrator.executors.parameters import Parameters, ShippedExecutor
from resilient.orchestrator.model import RecoveryContext, RecoveryStep

_SQLITE = "sqlite:///"


class DatabaseRestore(NamedTuple):
    """Where from and where to; where to keep the state from before (None: beside it); seconds to wait for locks."""

    source: str
    target: str
    backup_dir: str | None
    busy_timeout: float


class DatabaseRestoreExecutor(ShippedExecutor[DatabaseRestore]):
    """Makes the target what the source is, after keeping what the target was before, which its rollback brings back.

    Two SQLite files: the source is checked before the target is touched, and copied by SQLite's online backup, so that
    processes that have the target open go on with the new content. Only where the target is too damaged for that, or
    missing, a new file takes its place: processes that have the old one open must then be restarted.

    A dump and a `postgresql://` URL, either way: by `pg_restore`, `psql` and `pg_dump`. Each restores in one
    transaction.

    A repetition with the same idempotency key never takes what the first attempt has left for the state from before.
    Output: the `target`, the `backup` of what it was before (null where there was nothing), and the `method`.
    """

    allowed = ("source", "target", "backup_dir", "busy_timeout")

    def read(self, given: Parameters) -> DatabaseRestore:
        """The settings in the parameters."""
        source, target = _file(given.path("source", required=True)), _file(given.path("target", required=True))
        for name, value in (("source", source), ("target", target)):
            said = postgres.problem(value) if value and postgres.is_address(value) else _strange_scheme(value)
            if said:
                given.note(name, "a path, or a URL such as postgresql://user@host/database", said)
        if source and target and postgres.is_address(source) and postgres.is_address(target):
            given.note("target", "the path of a file where source is a URL", "another URL")
        return DatabaseRestore(
            source,
            target,
            given.path("backup_dir"),
            given.seconds("busy_timeout", 5.0, zero=True),
        )

    def execute(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Restore the target; ActionFailedError where that cannot be done, and then the target is as before."""
        wanted = self.settings(step)
        check(context)
        with _told():
            if postgres.is_address(wanted.target):
                return _restore_server(wanted, context)
            if postgres.is_address(wanted.source):
                return _dump_server(wanted, context)
            return _restore_file(wanted, context)

    def rollback(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Bring back what the target was before; nothing is done where nothing was kept."""
        wanted = self.settings(step)
        with _told():
            if postgres.is_address(wanted.target):
                target = postgres.server(wanted.target)
                keeper = _server_keeper(wanted, target, context, undoing=True)
                keeper.insist()
                return {"target": target.text, "restored": postgres.put_back(keeper, target, context)}
            keeper = Keeper(wanted.target, context, undoing=True, folder=_folder(wanted), called="target")
            if postgres.is_address(wanted.source):
                return {"target": str(keeper.path), "restored": keeper.restore()}
            from resilient.orchestrator.executors import sqlite_files

            keeper.sweep()
            keeper.insist()
            done = sqlite_files.put_back(keeper, context, wanted.busy_timeout)
            return {"target": str(keeper.path), "restored": done}


def _strange_scheme(value: str | None) -> str | None:
    if value == ":memory:":
        return "a database in memory, which ends with the step"
    return "a URL of another kind" if value and "://" in value else None


def _file(value: str | None) -> Any:
    """The path in a URL of a SQLite file; other values as they are."""
    return unquote(value.removeprefix(_SQLITE)) if value and value.startswith(_SQLITE) else value


@contextmanager
def _told() -> Iterator[None]:
    """Say in the words of this package what the operating system and SQLite object to."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise ActionFailedError(f"SQLite objects: {reason(error)}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ActionFailedError(f"{where}{error.strerror or error}") from error


def _restore_file(wanted: DatabaseRestore, context: RecoveryContext) -> dict[str, Any]:
    from resilient.orchestrator.executors import sqlite_files

    source = Path(os.path.realpath(wanted.source))
    keeper = Keeper(wanted.target, context, folder=_folder(wanted))
    if source == keeper.path or (keeper.path.exists() and source.exists() and source.samefile(keeper.path)):
        raise ActionFailedError(f"source={wanted.source} and target={wanted.target} are the same file")
    if not keeper.path.parent.is_dir():
        raise ActionFailedError(f"target={wanted.target}: there is no directory {keeper.path.parent}")
    sqlite_files.check_source(source, context)
    keeper.keep(lambda copy: sqlite_files.save(keeper.path, copy, context, wanted.busy_timeout))
    check(context)
    method = sqlite_files.install(source, keeper, context, wanted.busy_timeout)
    return _output(str(keeper.path), keeper, method)


def _restore_server(wanted: DatabaseRestore, context: RecoveryContext) -> dict[str, Any]:
    source = Path(os.path.realpath(wanted.source))
    if not source.exists():
        raise ActionFailedError(f"source={wanted.source}: there is no such file")
    target = postgres.server(wanted.target)
    keeper = _server_keeper(wanted, target, context)
    keeper.keep_by(lambda copy: _dump_private(target, copy, context))
    check(context)
    return _output(target.text, keeper, postgres.restore(source, target, context))


def _dump_private(target: postgres.Server, copy: Path, context: RecoveryContext) -> None:
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    postgres.dump(target, copy, context)


def _dump_server(wanted: DatabaseRestore, context: RecoveryContext) -> dict[str, Any]:
    keeper = Keeper(wanted.target, context)
    plain = keeper.path.suffix.lower() == ".sql"
    keeper.keep()
    with keeper.new() as file:
        if not keeper.path.exists():  # it holds all that the database holds
            file.chmod(0o600)
        postgres.dump(postgres.server(wanted.source), file, context, plain=plain)
        check(context)
        keeper.swap(file)
    return _output(str(keeper.path), keeper, "pg_dump")


def _folder(wanted: DatabaseRestore) -> Path | None:
    to_file = postgres.is_address(wanted.source)  # whose backup takes its place by being renamed
    return None if wanted.backup_dir is None or to_file else Path(os.path.realpath(wanted.backup_dir))


def _server_keeper(
    wanted: DatabaseRestore, target: postgres.Server, context: RecoveryContext, *, undoing: bool = False
) -> Keeper:
    folder = _folder(wanted) or Path(os.path.realpath(wanted.source)).parent
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in target.database)
    return Keeper(str(folder / f"{name}.dump"), context, undoing=undoing)


def _output(target: str, keeper: Keeper, method: str) -> dict[str, Any]:
    backup = str(keeper.backup) if keeper.backup.exists() else None
    return {"target": target, "backup": backup, "method": method}
