"""The executor of `configuration_update` steps: changes values in a file, and puts the file back on rollback."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any, NamedTuple

from resilient.orchestrator.executors import env_files, formats
from resilient.orchestrator.executors.failures import ActionFailedError, check
from resilient.orchestrator.executors.keeping import Keeper
from resilient.orchestrator.executors.parameters import Parameters, ShippedExecutor, kind_of
from resilient.orchestrator.executors.turns import turn
from resilient.orchestrator.model import RecoveryContext, RecoveryStep

_SCALARS = (str, bool, int, float)


class ConfigurationUpdate(NamedTuple):
    """The file, its format ("toml", "json" or "env"), and what to set in it."""

    path: str
    format: str
    changes: formats.Changes


class ConfigurationUpdateExecutor(ShippedExecutor[ConfigurationUpdate]):
    """Sets values in a TOML, JSON or .env file; comments and layout stay. What reads the file sees it old or new.

    Before the first change the file is kept beside itself, with its mode; rollback puts that back byte for byte, or
    takes the file away where there was none. A repetition with the same idempotency key leaves what is kept alone.
    Output: the `path` of the file itself, the keys `changed`, the path of the `backup` (null where nothing was to be
    changed, or there was no file), and whether the file was `created`.
    """

    allowed = ("path", "set", "format")

    def read(self, given: Parameters) -> ConfigurationUpdate:
        """The settings in the parameters."""
        path = given.path("path", required=True)
        kind = given.text("format", "toml, json or env") or (formats.format_of(path) if path else None)
        if kind is not None and kind not in formats.FORMATS:
            given.note("format", "toml, json or env", "another text")
            kind = None
        elif kind is None and path and not given.has("format"):
            given.note("path", "a name that ends in .toml, .json or .env, or format beside it", "another name")
        lacking = formats.missing(kind) if kind else None
        if lacking:
            given.note("path", f"{lacking} to be installed, which changing TOML needs ({formats.EXTRA})", "none")
        table = given.table("set", "a table of keys and values", required=True)
        if given.has("set") and not table and not given.unknown(given.raw("set")) and isinstance(table, Mapping):
            given.note("set", "at least one key", "none")
        changes = formats.changes_of({str(key): value for key, value in table.items()})
        for keys, value in changes:
            _judge(given, kind, keys, value)
        return ConfigurationUpdate(path, kind or "", changes)

    def execute(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Change the file; ActionFailedError where it cannot be read, changed or written."""
        wanted = self.settings(step)
        keeper = Keeper(wanted.path, context)
        try:
            with turn(keeper.path.parent, context):
                return self._change(wanted, keeper, context)
        except ActionFailedError as error:
            raise ActionFailedError(f"{wanted.path}: {error}") from None
        except OSError as error:
            raise ActionFailedError(f"{wanted.path}: cannot be changed: {error.strerror or error}") from None

    def rollback(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Put the file back as it was; nothing is done where nothing was changed."""
        wanted = self.settings(step)
        try:
            keeper = Keeper(wanted.path, context, undoing=True, called="path")
            with turn(keeper.path.parent, context):
                return {"path": str(keeper.path), "restored": keeper.restore()}
        except OSError as error:
            raise ActionFailedError(f"{wanted.path}: cannot be put back: {error.strerror or error}") from None

    def _change(self, wanted: ConfigurationUpdate, keeper: Keeper, context: RecoveryContext) -> dict[str, Any]:
        there = os.path.lexists(keeper.path)
        if there and not (keeper.path.is_file() or keeper.path.is_dir()):  # reading a pipe would not end
            raise ActionFailedError("is no plain file")
        before = _text(keeper.path) if there else ""
        mark = "\ufeff" if before.startswith("\ufeff") else ""
        after = mark + formats.changed(wanted.format, before.removeprefix(mark), wanted.changes)
        changed = after != before or not there
        if changed:
            if not keeper.path.parent.is_dir():
                raise ActionFailedError(f"there is no directory {keeper.path.parent}")
            keeper.keep()
            check(context)
            keeper.replace(after.encode())
        return {
            "path": str(keeper.path),
            "changed": [formats.dotted(keys) for keys, _ in wanted.changes] if changed else [],
            "backup": str(keeper.backup) if keeper.backup.exists() else None,
            "created": keeper.absent.exists(),
        }


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ActionFailedError(f"is not UTF-8 (byte {error.start})") from None


def _judge(given: Parameters, kind: str | None, keys: tuple[str, ...], value: Any) -> None:
    """Note what the format cannot hold."""
    path = f"set.{formats.dotted(keys)}"
    if len(keys) == 1 and formats.keys_of(keys[0]) is None:
        given.note(path, 'keys with dots between them, such as server.port or server."a.b"', "another text")
    if given.unknown(value):
        return
    if kind == "env":
        if len(keys) > 1 or not env_files.KEY.fullmatch(keys[0]):
            given.note(path, "a name of letters, digits and _ as the only key", "another one")
        if not isinstance(value, _SCALARS) or (isinstance(value, str) and "\0" in value):
            given.note(path, "a text, a number, true or false", kind_of(value))
    elif kind is not None and not _fits(kind, value):
        given.note(path, f"a value that {kind.upper()} has a word for", kind_of(value))


def _fits(kind: str, value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_fits(kind, one) for one in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _fits(kind, one) for key, one in value.items())
    if value is None:
        return kind == "json"
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, _SCALARS) or (kind == "toml" and isinstance(value, (date, time)))
