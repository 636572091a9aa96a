"""Events in the order in which they happened."""

from __future__ import annotations

import threading
from collections import deque

from resilient.events import HUB, Event


class Outbox:
    """Takes events under its owner's lock, and publishes them without one.

    Whoever comes while another sends leaves its events to that one, so that they arrive in the order they were put.
    """

    __slots__ = ("_events", "_lock", "_sending")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._events: deque[Event] = deque()
        self._sending = False

    def put(self, event: Event) -> None:
        """Take an event; the owner's lock says which is first."""
        self._events.append(event)

    def send(self) -> None:
        """Publish what is there; called without a lock."""
        while self._events:
            with self._lock:
                if self._sending or not self._events:
                    return
                self._sending = True
                event = self._events.popleft()
            try:
                if HUB.wants(type(event)):
                    HUB.publish(event)
            finally:
                self._sending = False
