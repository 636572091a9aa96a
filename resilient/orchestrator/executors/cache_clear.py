"""The executor of `cache_clear` steps: empties a cache, or a directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sized
from functools import partial
from typing import Any, NamedTuple

from resilient._registry import Registry
from resilient._registry import registry as everywhere
from resilient.errors import ConfigurationError
from resilient.orchestrator.executors import directories
from resilient.orchestrator.executors.calls import call, found
from resilient.orchestrator.executors.failures import ActionFailedError
from resilient.orchestrator.executors.parameters import Parameters, ShippedExecutor, is_named, kind_of
from resilient.orchestrator.model import RecoveryContext, RecoveryStep


class CacheClear(NamedTuple):
    """The cache (an object or what it is called), or else the directory and the root that it has to be in."""

    target: Any
    path: str
    root: str
    missing_ok: bool


class CacheClearExecutor(ShippedExecutor[CacheClear]):
    """Empties a cache by its `clear()`, or a directory that lies inside a stated root.

    There is nothing to undo: a cache fills itself again.
    Output: what was `cleared`, and how many `entries` (null where nobody knows); of a directory `bytes` too.

    Args:
        registry: where the names of degradations are looked up; by default the process's own.
    """

    allowed = ("target", "path", "root", "missing_ok")

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or everywhere

    def read(self, given: Parameters) -> CacheClear:
        """The settings in the parameters."""
        kind = given.one_of("target", "path")
        target, root = given.raw("target"), given.path("root")
        if kind == "target":
            if isinstance(target, str):
                given.text("target", "the name of a cache")
            elif _way(target) is None:
                given.note("target", "an object with clear(), or the name of one", kind_of(target))
            for name in ("root", "missing_ok"):
                if given.has(name):
                    given.note(name, "none without path", "one")
        elif kind == "path" and root is None and not given.unknown(given.raw("root")):
            if not given.has("root"):
                given.note("root", "the absolute path of the directory that path has to lie in", "none")
        elif root is not None and not os.path.isabs(root):
            given.note("root", "an absolute path", "a relative one")
        return CacheClear(target, given.path("path"), root, given.flag("missing_ok", False))

    def execute(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Clear it; ActionFailedError where that cannot be done, ConfigurationError where there is no such cache."""
        wanted = self.settings(step)
        if wanted.target is None:
            return _clear_directory(wanted, context)
        named = wanted.target if isinstance(wanted.target, str) else type(wanted.target).__name__
        cache = self._named(wanted.target) if isinstance(wanted.target, str) else wanted.target
        clear = _way(cache)
        if clear is None:
            raise ConfigurationError(f"target={named}: has no clear(), and no cache that has one")
        entries = _size(cache)
        call(clear, context)
        return {"cleared": named, "entries": entries}

    def _named(self, name: str) -> Any:
        known = self._registry.degradations.get(name)
        if known is not None:
            return known
        if is_named(name):
            return found(name)
        cached = [one for one, policy in self._registry.degradations.items() if policy.config.cache is not None]
        names = ", ".join(sorted(cached)) or "none"
        why = f'no degradation of this name has a cache, and it is no "package.module:name"; known: {names}'
        raise ConfigurationError(f"target={name}: {why}")


def _inner(cache: Any) -> Any:
    """The cache that is in a degradation, or in a cache that knows the age of its answers."""
    from resilient.degrade import Degradation
    from resilient.degrade.caches import is_fresh_cache

    if isinstance(cache, Degradation):
        cache = cache.config.cache
    return cache.cache if is_fresh_cache(cache) else cache


def _way(cache: Any) -> Callable[[], Any] | None:
    """What clears a cache; None where nothing does."""
    from resilient.degrade import caches

    inner = _inner(cache)
    for name in ("clear", "cache_clear"):  # the latter is that of functools.lru_cache
        clear = getattr(inner, name, None)
        if callable(clear) and not isinstance(inner, type):
            return partial(_locked, caches, inner, clear)
    return None


def _locked(caches: Any, cache: Any, clear: Callable[[], Any]) -> Any:
    """Clear a cache under the lock that those who fill it use, where it needs one."""
    shared = caches._lock_of(cache)
    if shared is None:
        return clear()
    with shared.lock:
        return clear()


def _size(cache: Any) -> int | None:
    inner = _inner(cache)
    if isinstance(inner, Sized) and isinstance(inner, Mapping):
        return len(inner)
    info = getattr(inner, "cache_info", None)
    return int(info().currsize) if callable(info) else None


def _clear_directory(wanted: CacheClear, context: RecoveryContext) -> dict[str, Any]:
    place, top = directories.place_of(wanted.path, wanted.root)
    try:
        cleared = directories.clear(place, top, context)
    except (FileNotFoundError, NotADirectoryError) as error:
        if wanted.missing_ok and isinstance(error, FileNotFoundError):
            cleared = directories.Cleared()
        else:
            raise ActionFailedError(
                f"path={place}: there is no such directory (missing_ok = true allows that)"
            ) from None
    except OSError as error:
        raise ActionFailedError(f"path={place} cannot be cleared: {error.strerror or error}") from None
    return {"cleared": str(place), "entries": cleared.entries, "bytes": cleared.bytes}
