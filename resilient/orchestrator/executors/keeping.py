"""Keeping what was there before a step, so that its rollback finds it again, also in another process after a crash.

Everything lies beside the file, under names that belong to one step of one execution: a repetition finds the state from
before the first attempt, and never takes for it what that attempt has left behind.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from resilient.orchestrator.executors.failures import ActionFailedError, BackupGoneError
from resilient.orchestrator.model import RecoveryContext

_UNDOING = ":rollback"
_TICK, _MOST_TICKS = 0.002, 50


class Keeper:
    """Replaces a file, and keeps what was there before. Links are followed: what they lead to is replaced.

    `undoing`: it is the step's rollback that asks, whose idempotency key differs from the step's own.
    `folder`: where to keep it, by default beside the file.
    `called`: the key in the step's output that says which file it really was.
    """

    def __init__(
        self,
        path: str,
        context: RecoveryContext,
        *,
        undoing: bool = False,
        folder: Path | None = None,
        called: str | None = None,
    ) -> None:
        done = _output(context) if undoing else {}
        # Where it was changed: a relative path, or one with links in it, may lead somewhere else by now.
        self.path = Path(os.path.realpath((called and done.get(called)) or path))
        copy = done.get("backup")
        self.folder = Path(copy).parent if copy else folder or self.path.parent
        key = context.idempotency_key
        key = key.removesuffix(_UNDOING) if undoing else key
        self._context, self._key = context, key
        self._stem = self._stem_of(key)
        #: What was there before; where nothing was, there is a mark that says so instead.
        self.backup = self.folder / f"{self._stem}.backup"
        self.absent = self.folder / f"{self._stem}.absent"
        #: The same, from steps that came before this one and were undone before it.
        self._instead = self.folder / f"{self._stem}.instead"
        self._never = self.folder / f"{self._stem}.never"

    def _stem_of(self, key: str) -> str:
        digest = hashlib.sha256(f"{self.path}\0{key}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", key)[:40].strip("-")
        return f".{self.path.name[:80]}.{readable}-{digest}"

    @property
    def kept(self) -> bool:
        """Whether the state from before is kept already."""
        return self.backup.exists() or self.absent.exists()

    def keep(self, write: Callable[[Path], object] | None = None) -> None:
        """Keep what is there now, unless the state from before is kept already.

        `write` makes the copy at a path that it is given, by default a plain copy of the file with its mode and owner.
        """
        if os.path.lexists(self.path) or self.kept:
            self.keep_by(write or (lambda copy: copy_file(self.path, copy)))
            return
        self.sweep()
        with self._new() as mark:
            mark.touch()
            put(mark, self.absent)

    def keep_by(self, write: Callable[[Path], object]) -> None:
        """Keep what `write` makes at a path that it is given, unless the state from before is kept already."""
        self.sweep()
        if not self.kept:
            with self._new() as copy:
                write(copy)
                put(copy, self.backup)
                self._be_latest()

    def _be_latest(self) -> None:
        """See to it that the time at which this was kept is later than that of all others, as clocks may be coarse."""
        pattern = f".{glob.escape(self.path.name[:80])}.*.backup"
        others = [_since(one) for one in self.folder.glob(pattern) if one != self.backup]
        for _ in range(_MOST_TICKS):
            if _since(self.backup) > max(others, default=0):
                return
            time.sleep(_TICK)
            self.backup.chmod(stat.S_IMODE(self.backup.stat().st_mode))

    def insist(self) -> None:
        """Raise BackupGoneError where the step says that it has changed something, and nothing of before is kept.

        Not where its rollback has begun before: that one may have brought it back.
        """
        done = _output(self._context)
        result = self._context.step_results.get(self._context.step_id)
        if self.kept or result is None or result.rollback_started_at is not None:
            return
        if done.get("backup") or done.get("created") or done.get("method"):
            gone = done.get("backup") or self.backup
            raise BackupGoneError(f"{self.path} stays as the step has left it: its backup {gone} is not there any more")

    def replace(self, content: bytes) -> None:
        """Put a file with this content in the place of the one that is there, whose mode and owner it gets."""
        with self.new() as file:
            file.write_bytes(content)
            self.swap(file)

    def swap(self, file: Path) -> None:
        """Put a finished file in the place of the one that is there, whose mode and owner it gets."""
        if self.path.exists():
            like(self.path, file)
        put(file, self.path)

    def restore(self) -> bool:
        """Put back the file from before, byte for byte; False where none is kept, so that nothing is to be done."""
        self.sweep()
        self.insist()
        later = self._later()
        if later is not None:
            return self._hand_over(later)
        for kept in (self._instead, self.backup):
            if kept.exists() and not self._never.exists():
                put(kept, self.path)  # one step: it is either still kept, or back
                self.forget()
                return True
        return self.restore_absence()

    def _later(self) -> str | None:
        """The name of what the next step of the same execution has kept that changed the file, and is not undone yet.

        Of steps that run side by side, the one that ended last need not be the one that changed the file last.
        """
        mine = next((one for one in (self.backup, self.absent) if one.exists()), None)
        if mine is None:
            return None
        execution = self._key.removesuffix(f":{self._context.step_id}")
        others = [one for one in self._context.step_results if one != self._context.step_id]
        times = {stem: _since(self.folder / f"{stem}.backup") for stem in map(self._stem_of, _keys(execution, others))}
        later = [stem for stem, since in times.items() if since > _since(mine)]
        return min(later, key=times.__getitem__, default=None)

    def _hand_over(self, later: str) -> bool:
        """Let the later step's rollback bring back what was before this one."""
        instead, never = self.folder / f"{later}.instead", self.folder / f"{later}.never"
        file = next((one for one in (self._instead, self.backup) if one.exists()), None)
        if file is None or self._never.exists():
            put(self._never if self._never.exists() else self.absent, never)
            instead.unlink(missing_ok=True)
        else:
            put(file, instead)
        self.forget()
        return True

    def restore_absence(self, *beside: str) -> bool:
        """Take the file away again, if there was none, and those that lie beside it with these endings."""
        if not self.absent.exists() and not self._never.exists():
            return False
        for ending in ("", *beside):
            Path(f"{self.path}{ending}").unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self.forget()
        return True

    def forget(self) -> None:
        """Drop what was kept: it is back in its place."""
        for kept in (self.backup, self._instead, self.absent, self._never):
            kept.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Take away what attempts that died have left half-written."""
        for folder in {self.folder, self.path.parent}:
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    # Databases have files of their own beside them, with longer names.
                    if entry.name.startswith(f"{self._stem}.") and ".new" in entry.name[len(self._stem) :]:
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)

    @contextlib.contextmanager
    def new(self) -> Iterator[Path]:
        """A path in the folder of the file, for its successor; taken away again where it was not put in its place."""
        with self._new(self.path.parent) as file:
            # Where there is no file yet, the new one is as open as the process makes files.
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if self.path.exists() else 0o666))
            yield file

    @contextlib.contextmanager
    def _new(self, folder: Path | None = None) -> Iterator[Path]:
        file = (folder or self.folder) / f"{self._stem}.{secrets.token_hex(4)}.new"
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)


def _output(context: RecoveryContext) -> Mapping[str, Any]:
    """What the step said that is to be undone; empty where it has not completed."""
    result = context.step_results.get(context.step_id)
    return result.output if result is not None and isinstance(result.output, Mapping) else {}


def _keys(execution: str, steps: Iterable[str]) -> list[str]:
    return [f"{execution}:{one}" for one in steps]


def _since(kept: Path) -> int:
    """When it was put there; the time of its content is that of the file itself."""
    try:
        return kept.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its mode, owner and times; nobody but the owner can read what is half-copied."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    shutil.copyfile(source, target)
    like(source, target)
    shutil.copystat(source, target)


def like(model: Path, file: Path) -> None:
    """Give a file the owner, the mode and the extended attributes of another one.

    ActionFailedError where this user may not: a file that changes hands is not the same file.
    """
    was, now = os.stat(model), os.stat(file)
    if hasattr(os, "chown") and (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        try:
            os.chown(file, was.st_uid, was.st_gid)
        except OSError as error:
            why = f"{model} belongs to user {was.st_uid} and group {was.st_gid}, which a new file cannot be given"
            raise ActionFailedError(f"{why} ({error.strerror}); run this as that user, or as root") from None
    shutil.copystat(model, file)
    os.utime(file, ns=(now.st_atime_ns, now.st_mtime_ns))


def put(file: Path, place: Path) -> None:
    """Move a finished file to its place, in one step that a power failure cannot halve."""
    with file.open("rb") as content:
        os.fsync(content.fileno())
    os.replace(file, place)
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder survive a power failure."""
    if os.name == "nt":  # where folders cannot be opened
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
