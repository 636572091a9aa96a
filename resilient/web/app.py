"""The status app: what it answers to which request. It knows no server; `asgi.py` and `wsgi.py` do."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from resilient._registry import Registry
from resilient._registry import registry as the_registry
from resilient.circuit_breaker import CircuitState
from resilient.clock import CLOCK
from resilient.errors import ConfigurationError
from resilient.events import log_failure
from resilient.web.access import Access
from resilient.web.actions import Actions
from resilient.web.asgi import Asgi
from resilient.web.board import Board
from resilient.web.feed import Feed, as_line
from resilient.web.html import page
from resilient.web.messages import LOGGER, Refused, Request, Response, Stream, as_json, see_other
from resilient.web.operating import Operating
from resilient.web.picture import Picture
from resilient.web.recoveries import Recoveries
from resilient.web.wsgi import Wsgi

Answer = Response | Stream
_STOPPED = (CircuitState.OPEN, CircuitState.ISOLATED)


class StatusApp:
    """The status page of a registry as an ASGI and a WSGI application; made by `status_app(...)`.

    The object itself can be called as either; `asgi` and `wsgi` are the two faces for whoever has to choose.
    `close()` ends its streams and stops listening to the registry.
    """

    def __init__(self, registry: Registry, *, token: str | None, critical: Sequence[str], orchestrator: Any) -> None:
        self.critical = _check_critical(critical)
        self.access = Access(token, time.time)
        self.board = Board(_check_registry(registry))
        self.feed = Feed(registry)
        self.recoveries = Recoveries(_check_orchestrator(orchestrator))
        self.picture = Picture(self.board, self.recoveries)
        self._operating = Operating(self.access, Actions(registry, orchestrator), self._acted)
        self._registry = registry
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self.asgi = Asgi(self)
        self.wsgi = Wsgi(self)
        _apps.add(self)

    def __call__(self, *arguments: Any) -> Any:
        """Be an ASGI application (three arguments, or one as in ASGI 2), or a WSGI application (two)."""
        if len(arguments) == 2:
            return self.wsgi(*arguments)
        if len(arguments) == 1:
            return lambda receive, send: self.asgi(arguments[0], receive, send)
        return self.asgi(*arguments)

    # Answering

    def handle(self, request: Request) -> Answer:
        """The answer to a request; whatever goes wrong is an answer too."""
        try:
            return self._route(request)
        except Refused as refused:
            return self._refusal(request, refused)
        except Exception:
            log_failure(LOGGER, "web.failed", "%s %s failed", request.method, request.path, kind="web")
            return self._refusal(request, Refused(500, "the status page has failed; its log says why"))

    def is_quick(self, request: Request) -> bool:
        """Whether the answer takes no time to speak of: those are given even where all threads hang."""
        return request.path in ("/healthz", "/readyz")

    def _route(self, request: Request) -> Answer:
        if self._closed:
            raise Refused(503, "the status page is closed")
        if request.path == "" and request.method in ("GET", "HEAD"):
            return see_other(request.base)
        post = self._operating.post(request.path)
        if post is not None:
            _allow(request, "POST")
            return post(request)
        if request.path == "/session":
            _allow(request, "GET", "HEAD", "POST")
            return self._operating.session(request)
        get = self._gets().get(request.path)
        if get is None:
            raise Refused(404, "there is nothing here; the status page is at its root")
        _allow(request, "GET", "HEAD")
        return get(request)

    def _gets(self) -> dict[str, Callable[[Request], Answer]]:
        return {
            "/": lambda request: page.overview(self._view(request)),
            "/policy": lambda request: page.one_policy(self._view(request)),
            "/api/snapshot": lambda request: Response(200, self.picture.as_json(), "application/json"),
            "/api/events": self._events,
            "/healthz": lambda request: as_json(200, {"status": "ok"}),
            "/readyz": lambda request: self._ready(),
        }

    def _view(self, request: Request) -> page.View:
        csrf = self.access.field(request) if self.access.acts else ""
        return page.View(self.board, self.recoveries, request, self.access.acts, csrf)

    def _events(self, request: Request) -> Answer:
        if request.method == "HEAD":
            return Response(200, kind="text/event-stream; charset=utf-8")
        listener = self.feed.listen()
        try:
            first = b"retry: 1000\n\n"
            if request.asked("snapshot") != "0":
                first += b"event: snapshot\ndata: %s\n\n" % self.picture.as_json()
            else:
                first += as_line("hello", {})
        except BaseException:
            listener.close()
            raise
        return Stream(listener, first)

    def _ready(self) -> Response:
        breakers = self._registry.circuit_breakers
        found = ((name, breakers.get(name)) for name in self.critical)
        states = {name: _state_of(breaker) for name, breaker in found if breaker is not None}
        ready = not any(state in _STOPPED for state in states.values())
        told = {
            "status": "ready" if ready else "not ready",
            "critical": {name: state.value for name, state in states.items()},
            "unknown": [name for name in self.critical if name not in states],
        }
        return as_json(200 if ready else 503, told)

    def _refusal(self, request: Request, refused: Refused) -> Response:
        if request.wants_json() or request.path.startswith(("/api/", "/healthz", "/readyz")):
            answer = as_json(refused.status, {"error": refused.text})
        else:
            answer = page.refusal(request, refused.status, refused.text, whole=not request.asked("fragment"))
        answer.headers.update(refused.headers)
        return answer

    def _acted(self) -> None:
        self.board.outdate()
        self.recoveries.outdate()

    # Living

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads in which the ASGI face answers: its own, as the event loop's may all be busy in an outage."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(2, "resilient-web")
            return self._pool

    def close(self) -> None:
        """End all streams and the sampling, and hear no more of the registry; requests are answered by 503."""
        self._closed = True
        self.rest()
        self.board.close()

    def rest(self) -> None:
        """End all streams, threads and the sampling until the next request, as a server does that shuts down."""
        self.feed.close()
        self.board.rest()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    def after_fork(self) -> None:
        """Make everything usable in a forked child."""
        self._lock = threading.RLock()
        self._pool = None
        for part in (self.access, self.board, self.feed, self.recoveries, self.picture):
            part.after_fork()

    def __repr__(self) -> str:
        return f"<StatusApp {'with' if self.access.acts else 'without'} actions, {self.feed.streams} streams>"


def status_app(
    registry: Registry, *, token: str | None = None, critical: Sequence[str] = (), orchestrator: Any = None
) -> StatusApp:
    """The status page of a registry, to be served by any ASGI or WSGI server, or mounted into another application.

    It shows every policy and updates live; `/api/snapshot`, `/api/events`, `/healthz` and `/readyz` are for programs.

    Args:
        registry: the registry to show, `resilient.registry`.
        token: whoever has it may isolate, reset, configure, approve and cancel; None: nobody may. Printable ASCII;
            one of less than 16 characters can be guessed, which is warned of in the log.
        critical: names of circuit breakers; while one of them is open or isolated, `/readyz` answers 503.
        orchestrator: a `RecoveryOrchestrator` whose executions are shown too.

    Raises:
        ConfigurationError: a token that is too short, or has characters that a header cannot carry.
        TypeError: something that is not what it must be.
    """
    return StatusApp(registry, token=token, critical=critical, orchestrator=orchestrator)


def _state_of(breaker: Any) -> CircuitState:
    """The state of now. Not by `breaker.state`, which tells subscribers of a change: one that hangs is not for us."""
    epoch = breaker._machine.epoch
    over = epoch.state is CircuitState.OPEN and CLOCK.monotonic() >= epoch.until
    return CircuitState.HALF_OPEN if over else epoch.state


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        text = f"{request.method} is not possible here; use {' or '.join(methods)}"
        raise Refused(405, text, Allow=", ".join(methods))


def _check_registry(registry: Any) -> Registry:
    if not isinstance(registry, Registry):
        raise TypeError(f"registry: must be a Registry, such as resilient.registry, not a {type(registry).__name__}")
    return registry


def _check_critical(critical: Any) -> tuple[str, ...]:
    if isinstance(critical, str):
        raise TypeError(f"critical={critical!r}: must be a sequence of names; write ({critical!r},) for this one")
    try:
        names = tuple(critical)
    except TypeError:
        raise TypeError(f"critical={critical!r}: must be a sequence of names of circuit breakers") from None
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"critical={critical!r}: {name!r} is not a name; give the names of circuit breakers")
        if not name.strip():
            raise ConfigurationError(f"critical={critical!r}: a name is empty; give the names of circuit breakers")
    return names


def _check_orchestrator(orchestrator: Any) -> Any:
    for method in ("history", "approve", "cancel_execution") if orchestrator is not None else ():
        if isinstance(orchestrator, type) or not callable(getattr(orchestrator, method, None)):
            raise TypeError(f"orchestrator: must be a RecoveryOrchestrator or None, not {type(orchestrator).__name__}")
    return orchestrator


_apps: weakref.WeakSet[StatusApp] = weakref.WeakSet()


def _after_fork() -> None:
    for app in list(_apps):
        app.after_fork()


the_registry.fork_hooks.append(_after_fork)
