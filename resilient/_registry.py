"""The one place where a process's policies are found, read, and changed while they work."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from resilient.errors import ConfigurationError
from resilient.events import HUB, ConfigurationChanged, Event, Subscription, log_failure

if TYPE_CHECKING:
    from resilient.bulkhead import Bulkhead
    from resilient.circuit_breaker import CircuitBreaker
    from resilient.degrade import Degradation
    from resilient.retry import RetryPolicy
    from resilient.timeout import Timeout

_log = logging.getLogger("resilient.registry")

#: What the user types as kind, and what the registry calls the lot of them.
SHELVES = {
    "circuit_breaker": "circuit_breakers",
    "bulkhead": "bulkheads",
    "retry": "retries",
    "timeout": "timeouts",
    "degrade": "degradations",
}


class Registered(Protocol):
    """What the registry needs of a policy."""

    kind: Any
    config: Any
    defined: Any

    def describe(self) -> dict[str, Any]: ...
    def reconfigure(self, changes: dict[str, Any]) -> None: ...
    def apply(self, config: Any) -> None: ...
    def after_fork(self) -> None: ...


class Recompilable(Protocol):
    """What the registry needs of a guarded function."""

    def compiled(self) -> Callable[..., Any]: ...
    def install(self, entry: Callable[..., Any]) -> None: ...


P = TypeVar("P")


class Shelf(Mapping[str, P], Generic[P]):
    """The policies of one kind by name.

    Explicitly named ones stay; automatically named ones are here as long as a function uses them.
    """

    __slots__ = ("_automatic", "_lock", "_named", "kind")

    def __init__(self, kind: str, lock: threading.RLock) -> None:
        self.kind = kind
        self._lock = lock
        self._named: dict[str, P] = {}
        self._automatic: weakref.WeakValueDictionary[str, P] = weakref.WeakValueDictionary()

    def __getitem__(self, name: str) -> P:
        found = self._named.get(name)
        if found is None:
            found = self._automatic.get(name)
        if found is None:
            known = ", ".join(sorted(self)) or "none"
            raise KeyError(f"no {self.kind} is named {name!r}; known: {known}")
        return found

    def pairs(self) -> dict[str, P]:
        """What is here now: a copy, whatever other threads decorate meanwhile."""
        with self._lock:
            return {**dict(self._automatic.items()), **self._named}

    def __iter__(self) -> Iterator[str]:
        return iter(self.pairs())

    def __len__(self) -> int:
        return len(self.pairs())

    def items(self) -> ItemsView[str, P]:
        """Names and policies, as they are now."""
        return self.pairs().items()

    def values(self) -> ValuesView[P]:
        """Policies, as they are now."""
        return self.pairs().values()

    def __repr__(self) -> str:
        return f"<{SHELVES[self.kind]}: {', '.join(sorted(self)) or 'none'}>"

    def put(self, name: str, policy: P) -> None:
        """Add an explicitly named policy."""
        self._named[name] = policy

    def put_automatic(self, wanted: str, policy: P) -> str:
        """Add a policy under the name wanted, or that name with #2, #3, …; returns the name it got."""
        name, number = wanted, 1
        while name in self._named or name in self._automatic:
            number += 1
            name = f"{wanted}#{number}"
        self._automatic[name] = policy
        return name


class Registry:
    """All policies of the process by kind and name; import the one instance as `resilient.registry`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shelves = self._empty_shelves()
        self._disabled = 0
        self._everyone: weakref.WeakSet[Any] = weakref.WeakSet()
        # Keyed by identity: proxies over one function compare equal.
        self._guarded: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        #: True inside `disabled()`; blocks and `policy.call` ask it, decorated functions are compiled without policies.
        self.off = False
        #: Called in a forked child, for state that is not a policy's.
        self.fork_hooks: list[Callable[[], object]] = []

    @property
    def circuit_breakers(self) -> Mapping[str, CircuitBreaker]:
        """Circuit breakers by name."""
        return self._shelves["circuit_breaker"]

    @property
    def bulkheads(self) -> Mapping[str, Bulkhead]:
        """Bulkheads by name."""
        return self._shelves["bulkhead"]

    @property
    def retries(self) -> Mapping[str, RetryPolicy]:
        """Retry policies by name."""
        return self._shelves["retry"]

    @property
    def timeouts(self) -> Mapping[str, Timeout]:
        """Timeouts by name."""
        return self._shelves["timeout"]

    @property
    def degradations(self) -> Mapping[str, Degradation]:
        """Degradations by name."""
        return self._shelves["degrade"]

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """A picture of everything in plain dicts, lists, numbers and strings, ready for JSON; a copy."""
        return {
            SHELVES[kind]: {name: policy.describe() for name, policy in sorted(shelf.items())}
            for kind, shelf in self._shelves.items()
        }

    def subscribe(self, handler: Callable[[Any], object], *event_types: type[Event]) -> Subscription:
        """Call `handler(event)` for each event of these classes (of all, if none is named).

        Returns a callable that unsubscribes, which is a context manager too.
        Handlers run in the thread of the guarded call, outside all locks; one that raises is logged and counted.
        """
        return HUB.subscribe(handler, *event_types)

    def configure(self, kind: str, name: str, /, **changes: Any) -> None:
        """Change options of a live policy; its state stays. A bad change raises and changes nothing.

        `kind` is the decorator's name (`"circuit_breaker"`), the options are the decorator's.
        Raises KeyError for an unknown name, TypeError for an unknown option, ConfigurationError for a bad value.
        """
        if kind not in self._shelves:
            raise ConfigurationError(f"kind={kind!r}: must be one of {', '.join(SHELVES)}")
        with self.lock:
            self.change({self._shelves[kind][name]: changes})
        if HUB.wants(ConfigurationChanged):
            HUB.publish(ConfigurationChanged(name, kind, changes))

    def change(self, changes: Mapping[Any, dict[str, Any]]) -> None:
        """Change live policies, all of them or none, and tell nobody yet; the caller has the lock."""
        before = {policy: policy.config for policy in changes}
        affected = [
            guarded
            for guarded in self._live()
            if any(policy is one or policy in one.uses() for one in guarded.policies for policy in changes)
        ]
        try:
            for policy, options in changes.items():
                policy.reconfigure(options)
            _recompile(affected)
        except BaseException:
            if _take_back(before):
                _recompile(affected)
            raise

    def configure_from(self, path: str | os.PathLike[str]) -> Any:
        """Apply a file of strategies to the live policies of the same names; their state stays.

        Raises ConfigurationError, with every problem in the file, before anything is changed. See
        `resilient.strategies.configure_from`.
        """
        # By name: the rooms above import this one.
        strategies: Any = import_module("resilient.strategies")
        return strategies.configure_from(path)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let every call in the process pass through unguarded inside the block; all state stays as it is."""
        try:
            self._switch(+1)
            yield
        finally:
            self._switch(-1)

    @contextmanager
    def scoped(self) -> Iterator[Registry]:
        """Work with an empty registry and no subscribers of your own inside the block, as a test wants it.

        Process-wide. Functions decorated before keep their policies; names are looked up in, and given to, the new one.
        """
        HUB.flush()
        with self.lock:
            before, self._shelves = self._shelves, self._empty_shelves()
            listeners = HUB.swap(())
        try:
            yield self
        finally:
            with self.lock:
                self._shelves = before
                HUB.swap(listeners)
            HUB.flush()

    def obtain(self, kind: str, name: str | None, config: Any, make: Callable[[], P]) -> P:
        """The policy of this explicit name, made if it is new; a fresh one where there is no name."""
        with self.lock:
            if name is None:
                policy = make()
            else:
                shelf = self._shelves[kind]
                known = shelf._named.get(name)
                if known is not None:
                    if config not in (known.config, known.defined):
                        raise ConfigurationError(
                            f"{kind} {name!r} is already defined differently: {_difference(known.config, config)}. "
                            f"Use one definition (registry.{SHELVES[kind]}[{name!r}]), or another name"
                        )
                    return known  # type: ignore[no-any-return]
                policy = make()
                shelf.put(name, policy)
            self._everyone.add(policy)
            return policy

    def everyone(self, kind: str) -> list[Any]:
        """All policies of a kind that are alive, named or not, also those that a scope has put aside."""
        with self.lock:
            return [policy for policy in self._everyone if policy.kind == kind]

    def name_automatically(self, kind: str, wanted: str, policy: object) -> str:
        """Register an unnamed policy under the name of what it guards."""
        with self.lock:
            return self._shelves[kind].put_automatic(wanted, policy)

    def watch(self, guarded: Recompilable) -> None:
        """Remember a guarded function, weakly, to compile it anew when something changes; the caller has the lock."""
        self._guarded[id(guarded)] = guarded

    def _empty_shelves(self) -> dict[str, Shelf[Any]]:
        return {kind: Shelf(kind, self.lock) for kind in SHELVES}

    def recompile(self) -> None:
        """Compile every guarded function anew; all of them, or none where one cannot be."""
        with self.lock:
            _recompile(self._live())

    def _live(self) -> list[Any]:
        return list(self._guarded.values())

    def _switch(self, step: int) -> None:
        with self.lock:
            self._disabled += step
            self.off = self._disabled > 0
            for guarded in self._live():
                guarded.install(guarded.compiled())

    def after_fork(self) -> None:
        """Make locks usable in a forked child, whoever held them, and give up what other threads had taken."""
        self.lock = threading.RLock()
        for shelf in self._shelves.values():
            shelf._lock = self.lock
        HUB.after_fork()
        for policy in list(self._everyone):
            policy.after_fork()
        for hook in self.fork_hooks:
            hook()

    def __repr__(self) -> str:
        counts = ", ".join(f"{SHELVES[kind]}={len(shelf)}" for kind, shelf in self._shelves.items())
        return f"<resilient.registry: {counts}>"


def _take_back(before: Mapping[Any, Any]) -> bool:
    """Give policies the configurations they had; whether any had another one."""
    changed = [policy for policy, config in before.items() if policy.config is not config]
    for policy in reversed(changed):
        try:
            policy.apply(before[policy])
        except Exception:  # noqa: BLE001 - whatever it is, the others are to be taken back
            text, named = "%s %s: a change could not be taken back", (policy.kind, policy.name)
            event = "configuration.not_taken_back"
            log_failure(_log, event, text, *named, kind=policy.kind, policy=policy.name, limited=False)
    return bool(changed)


def _recompile(affected: Iterable[Recompilable]) -> None:
    entries = [(guarded, guarded.compiled()) for guarded in affected]
    for guarded, entry in entries:
        guarded.install(entry)


def _difference(old: Any, new: Any) -> str:
    names = old.differences(new)
    return "; ".join(f"{name} was {getattr(old, name)!r} and is now {getattr(new, name)!r}" for name in names)


registry = Registry()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=registry.after_fork)
