"""What happens, told to whoever watches: each watcher has a short queue, so that a slow one holds up nobody."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakMethod

from resilient._registry import Registry
from resilient.clock import CLOCK
from resilient.events import CircuitStateChanged, Event, Subscription
from resilient.logs import plain_field
from resilient.logs.texts import one_line
from resilient.web.messages import Refused

#: At most so many watchers at a time, lines kept for each, and events told in a second.
MOST_STREAMS, LONGEST_QUEUE, MOST_A_SECOND = 64, 256, 500
#: Seconds between signs of life, and after which a watcher has to come again.
HEARTBEAT, LIFETIME = 15.0, 300.0


class Listener:
    """One who watches. `take` gives the lines since the last time; `tell`, if set, is called when there are some."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._lines: deque[bytes] = deque(maxlen=feed.longest_queue)
        self._dropped = 0
        self._ready = threading.Event()
        self.tell: Callable[[], object] | None = None
        #: Whether it holds a thread of a server that may have few of them.
        self.holds_thread = False
        self.closed = False

    @property
    def heartbeat(self) -> float:
        """Seconds between signs of life."""
        return self._feed.heartbeat

    @property
    def lifetime(self) -> float:
        """Seconds after which the stream ends, and the watcher comes again."""
        return self._feed.lifetime

    def put(self, line: bytes | None) -> None:
        """Add a line, in the place of the oldest one where there is no room; None is one that was left out."""
        if line is None or len(self._lines) == self._lines.maxlen:
            self._dropped += 1
        if line is not None:
            self._lines.append(line)
        self._wake()

    def _wake(self) -> None:
        if not self._ready.is_set():
            self._ready.set()
            if self.tell is not None:
                with suppress(RuntimeError):  # the event loop is closed
                    self.tell()

    def wait(self, seconds: float) -> bool:
        """Wait until there are lines, or the end; at most so long. Whether it was worth it."""
        return self._ready.wait(seconds)

    def take(self) -> bytes:
        """The lines since the last time."""
        self._ready.clear()
        dropped, self._dropped = self._dropped, 0
        lines = [as_line("dropped", {"events": dropped})] if dropped else []
        with suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        return b"".join(lines)

    def close(self) -> None:
        """Watch no longer; twice is harmless."""
        self.closed = True
        self._wake()
        self._feed.remove(self)


class Feed:
    """Hands the events of the registry on to the listeners; subscribes while there are any."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.RLock()
        self._listeners: tuple[Listener, ...] = ()
        self._subscription: Subscription | None = None
        self._second, self._told = 0.0, 0
        self.most_streams, self.longest_queue = MOST_STREAMS, LONGEST_QUEUE
        self.heartbeat, self.lifetime = HEARTBEAT, LIFETIME

    @property
    def streams(self) -> int:
        """How many watch now."""
        return len(self._listeners)

    @property
    def threads(self) -> int:
        """How many of them hold a thread of a server that may have few."""
        return sum(listener.holds_thread for listener in self._listeners)

    def listen(self) -> Listener:
        """A new listener; Refused where there are too many."""
        with self._lock:
            if len(self._listeners) >= self.most_streams:
                text = f"{self.most_streams} streams are open already; ask /api/snapshot instead"
                raise Refused(503, text, Retry_After="30")
            listener = Listener(self)
            self._listeners = (*self._listeners, listener)
            if self._subscription is None:
                self._subscription = self._registry.subscribe(weakly(self._told_of))
        return listener

    def remove(self, listener: Listener) -> None:
        """Forget a listener."""
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one is not listener)
            subscription = None
            if not self._listeners:
                subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription()

    def _told_of(self, event: Event) -> None:
        # A change of state is always told; it is the calls that come in floods.
        line = None
        if isinstance(event, CircuitStateChanged) or self._has_room():
            line = as_line("change", plain_event(event))
        for listener in self._listeners:
            listener.put(line)

    def _has_room(self) -> bool:
        now = CLOCK.monotonic()
        if now - self._second >= 1:
            self._second, self._told = now, 0
        self._told += 1
        return self._told <= MOST_A_SECOND

    def close(self) -> None:
        """End all streams."""
        for listener in self._listeners:
            listener.close()

    def after_fork(self) -> None:
        """The watchers have stayed with the parent."""
        self._lock = threading.RLock()
        self._listeners = ()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription()


def weakly(method: Callable[[Any], object]) -> Callable[[Any], None]:
    """A handler that does not keep the object of the method alive."""
    reference = WeakMethod(method)

    def handler(event: Any) -> None:
        found = reference()
        if found is not None:
            found(event)

    return handler


def plain_event(event: Event) -> dict[str, Any]:
    """An event as JSON has it: no arguments and results of calls, no values of options, errors as text."""
    fields = {name: _for_json(name, plain_field(name, value)) for name, value in event.fields().items()}
    return {"event": type(event).__name__, **fields}


def _for_json(name: str, value: Any) -> Any:
    """A plain value as JSON has it: without numbers that are none, and names of options in order."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    return sorted(value) if name == "changes" and isinstance(value, list) else value


def as_line(event: str, value: Any) -> bytes:
    """One event of a stream. JSON has no line breaks in it, which would end it."""
    return b"event: %s\ndata: %s\n\n" % (one_line(event).encode(), json.dumps(value, separators=(",", ":")).encode())
