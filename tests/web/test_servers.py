"""Both faces behind real servers: uvicorn, the server of the package, and wsgiref's rules."""

import asyncio
import contextlib
import io
import json
import os
import socket
import sys
import threading
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from resilient import ConfigurationError, circuit_breaker, registry
from resilient.web import StatusServer, serve, server, status_app
from resilient.web.messages import LONGEST_BODY

from .asking import TOKEN, get
from .serving import fetch, streaming, uvicorn_of, wait_until


@contextlib.contextmanager
def served(app, how):
    if how == "serve":
        with serve(app, port=0) as server:
            yield server.url
    else:
        with uvicorn_of({"app": app, "asgi": app.asgi}[how]) as url:
            yield url


BOTH = pytest.mark.parametrize("how", ["serve", "app", "asgi"])


@BOTH
def test_routes_answer_over_http(acting, how):
    """Page, snapshot, health and actions work the same through every server."""
    breaker = circuit_breaker("payments")
    with served(acting, how) as url:
        status, headers, page = fetch(url)
        assert (status, b"payments" in page) == (200, True)
        assert {key.lower(): value for key, value in headers.items()}["x-content-type-options"] == "nosniff"
        assert json.loads(fetch(f"{url}api/snapshot")[2])["circuit_breakers"]["payments"]["state"] == "closed"
        form = {"Content_Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {TOKEN}"}
        status, _, body = fetch(f"{url}actions/isolate", "POST", b"kind=circuit_breaker&name=payments", **form)
        assert (status, json.loads(body)["done"]) == (200, "isolate")
        assert breaker.state.value == "isolated"
        assert fetch(f"{url}healthz")[0] == 200
        assert fetch(f"{url}nothing")[0] == 404
        status, headers, body = fetch(f"{url}api/snapshot", "HEAD")
        assert (status, body) == (200, b"")


@BOTH
def test_bodies_that_are_too_long_are_refused(acting, how):
    """413 for a body of 65,537 bytes, and of many more."""
    form = {"Content_Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {TOKEN}"}
    with served(acting, how) as url:
        for size in (LONGEST_BODY + 1, 500_000):
            assert fetch(f"{url}actions/isolate", "POST", b"a=" + b"x" * (size - 2), **form)[0] == 413


@BOTH
def test_streams_tell_at_once(app, how):
    """A watcher is told of a change while it happens."""
    breaker = circuit_breaker("payments")
    with served(app, how) as url, streaming(f"{url}api/events") as read_until:
        assert b"event: snapshot" in read_until(b"generated_at")
        breaker.isolate()
        assert b'"new":"isolated"' in read_until(b"CircuitStateChanged")


@BOTH
def test_client_that_goes_away_frees_its_place(app, how):
    """A watcher that disconnects in the middle gives its place back, and its thread ends."""
    app.feed.heartbeat = 0.05
    with served(app, how) as url:
        threads = threading.active_count()
        with streaming(f"{url}api/events?snapshot=0") as read_until:
            read_until(b"hello")
            assert app.feed.streams == 1
        assert wait_until(lambda: app.feed.streams == 0)
        if how == "serve":
            assert wait_until(lambda: threading.active_count() <= threads)


@BOTH
def test_client_that_never_reads_holds_up_nobody(app, how):
    """While a watcher reads nothing, calls and other watchers go on, and its queue stays bounded."""
    breaker = circuit_breaker("payments")
    with served(app, how) as url, streaming(f"{url}api/events?snapshot=0"):
        assert wait_until(lambda: app.feed.streams == 1)
        for _ in range(3000):
            breaker.isolate()
            breaker.reset()
        assert len(app.feed._listeners[0]._lines) <= 256
        assert fetch(f"{url}api/snapshot")[0] == 200


@BOTH
def test_quiet_streams_give_signs_of_life(app, how):
    """A stream in which nothing happens has a comment now and then."""
    app.feed.heartbeat = 0.05
    with served(app, how) as url, streaming(f"{url}api/events?snapshot=0") as read_until:
        read_until(b": still here\n\n")


@BOTH
def test_streams_end_after_their_time(app, how):
    """After its time a stream ends by itself, and the browser comes again."""
    app.feed.lifetime, app.feed.heartbeat = 0.1, 0.05
    with served(app, how) as url:
        status, _, body = fetch(f"{url}api/events?snapshot=0")
        assert (status, b"hello" in body) == (200, True)
        assert wait_until(lambda: app.feed.streams == 0)


def test_place_is_freed_at_once_under_asgi(app):
    """ASGI says when a client goes, and no heartbeat has to pass."""
    app.feed.heartbeat = 1000
    with uvicorn_of(app) as url:
        with streaming(f"{url}api/events?snapshot=0") as read_until:
            read_until(b"hello")
        assert wait_until(lambda: app.feed.streams == 0)


def test_server_that_ends_ends_its_streams(app):
    """Leaving the block of `serve` ends streams that are open, at once."""
    app.feed.heartbeat = 1000
    server = serve(app, port=0)
    with streaming(f"{server.url}api/events?snapshot=0") as read_until:
        read_until(b"hello")
        server.close()
        assert app.feed.streams == 0
    server.close()
    assert server.wait(0)


def test_port_in_use_is_said():
    """A port that is taken is a ConfigurationError which names it, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port={port}: is in use on 127.0.0.1; .* 0 for any"):
            serve(status_app(registry), port=port)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"port": 65536}, ConfigurationError, "from 1 to 65535"),
        ({"port": -1}, ConfigurationError, "from 1 to 65535"),
        ({"port": "8000"}, TypeError, "whole number"),
        ({"port": True}, TypeError, "whole number"),
        ({"host": 0}, TypeError, "an address"),
        ({"host": "192.0.2.1", "port": 0}, ConfigurationError, "host='192.0.2.1': cannot be listened on"),
    ],
)
def test_impossible_addresses_are_said(app, options, error, words):
    """Host and port that cannot be are refused before anything is served."""
    with pytest.raises(error, match=words):
        serve(app, **options)


def test_only_status_apps_are_served():
    """Giving the registry itself is a TypeError that says what is wanted."""
    with pytest.raises(TypeError, match=r"status_app\(registry\)"):
        serve(registry)


def test_server_says_where_it_is(app):
    """`url` can be opened, also where it listens on every address; `with` gives the server."""
    with serve(app, "0.0.0.0", 0) as server:  # noqa: S104 - that is the claim
        assert isinstance(server, StatusServer)
        assert server.url == f"http://127.0.0.1:{server.port}/"
        assert fetch(f"{server.url}healthz")[0] == 200


@pytest.mark.parametrize(
    "raw", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"G" * 70_000]
)  # fmt: skip
def test_what_is_no_http_is_survived(app, told, raw):
    """Garbage ends its own connection, is no error in the log, and the server goes on."""
    with serve(app, port=0) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                connection.recv(1000)
        assert fetch(f"{server.url}healthz")[0] == 200
    assert not told


def test_connections_are_bounded(app, monkeypatch):
    """Beyond the most connections, further ones are closed at once, and places come back."""
    monkeypatch.setattr("resilient.web.server.MOST_CONNECTIONS", 2)
    with serve(app, port=0) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2)]
        assert wait_until(lambda: server._server._places._value == 0)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as refused:
            assert refused.recv(10) == b""
        for one in held:
            one.close()
        assert wait_until(lambda: server._server._places._value == 2)
        assert fetch(f"{server.url}healthz")[0] == 200


# The faces without a server


def environ(path="/", method="GET", **more):
    return {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False,
        "wsgi.run_once": False, **more,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/snapshot", "/api/events", "/nothing", "/session"])
def test_wsgi_keeps_to_the_rules(app, path):
    """wsgiref's validator finds nothing in any answer, streams included."""
    started = []

    def start_response(status, headers, exc_info=None):
        started.append(status)
        return lambda data: None

    app.feed.lifetime = 0
    answer = validator(app)(environ(path), start_response)
    body = b"".join(answer)
    answer.close()
    assert body
    assert len(started) == 1
    assert app.feed.streams == 0


def test_wsgi_stream_that_is_never_read_gives_its_place_back(app):
    """A server that closes a stream before its first part frees the place."""
    answer = app.wsgi(environ("/api/events"), lambda status, headers: None)
    assert app.feed.streams == 1
    answer.close()
    assert app.feed.streams == 0


def test_wsgi_servers_of_one_thread_get_no_stream(app):
    """A worker that does one thing at a time would do nothing else: 503, and the page asks instead."""
    told = []
    app.wsgi(environ("/api/events", **{"wsgi.multithread": False}), lambda status, headers: told.append(status))
    assert told == ["503 Service Unavailable"]


@pytest.mark.parametrize("length", ["-1", "many", "1e3", "²"])
def test_wsgi_length_must_be_one(acting, length):
    """A Content-Length that is no number is 400."""
    told = []
    acting.wsgi(environ("/actions/isolate", "POST", CONTENT_LENGTH=length), lambda status, headers: told.append(status))
    assert told == ["400 Bad Request"]


def test_wsgi_paths_are_utf8(app):
    """A path of bytes that are no UTF-8 is simply not found."""
    told = []
    app.wsgi(environ("/\xff\xfe"), lambda status, headers: told.append(status))
    assert told == ["404 Not Found"]


async def asgi(app, scope, *messages):
    """What an ASGI application sends in answer to these messages, after which the client is gone."""
    waiting, sent = list(messages), []

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_asgi_lifespan_lets_the_app_rest(app):
    """Shutdown ends streams and threads; a server that starts with the same app again is answered."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    for _ in range(2):
        listener = app.feed.listen()
        assert get(app).status == 200
        assert app.board.sampling
        sent = asyncio.run(asgi(app, {"type": "lifespan"}, *messages))
        assert [one["type"] for one in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert listener.closed
        app.feed.remove(listener)
        assert not app.board.sampling
        assert not app.is_closed


def test_asgi_websockets_are_refused(app):
    """There are no websockets here."""
    sent = asyncio.run(asgi(app, {"type": "websocket"}, {"type": "websocket.connect"}))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_asgi_client_that_goes_during_its_body_is_forgotten(acting):
    """A body that is never finished is not answered, and does nothing."""
    scope = {"type": "http", "method": "POST", "path": "/actions/isolate", "headers": [], "query_string": b""}
    assert asyncio.run(asgi(acting, scope, {"type": "http.request", "body": b"a", "more_body": True})) == []


def test_asgi_health_does_not_wait_for_threads(app):
    """While every thread of the app hangs, liveness and readiness are answered."""
    release = threading.Event()
    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}

    async def both():
        for _ in range(4):
            app.pool.submit(release.wait, 10)
        return [await asyncio.wait_for(asgi(app, {**scope, "path": path}, {"type": "http.request"}), 5)
                for path in ("/healthz", "/readyz")]  # fmt: skip

    try:
        answers = asyncio.run(both())
    finally:
        release.set()
    assert [answer[0]["status"] for answer in answers] == [200, 200]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here: nothing to survive")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_of_a_fork_has_a_usable_app(acting):
    """After a fork, with every lock held and a stream open in the parent, the child answers and samples anew."""
    circuit_breaker("payments")
    get(acting)
    opened = get(acting, "/api/events")
    reading, writing = os.pipe()
    locks = [acting.board._lock, acting.feed._lock, acting.access._lock, acting._lock, acting.picture._lock]
    held, release = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in [*locks, acting.recoveries._lock]:
                stack.enter_context(lock)
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    child = os.fork()
    if child == 0:
        said = b"broken"
        try:
            answers = [get(acting, path).status for path in ("/", "/api/snapshot", "/readyz", "/session")]
            streams = acting.feed.streams
            stream = get(acting, "/api/events").status
            said = json.dumps([answers, streams, stream, acting.board.sampling]).encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    release.set()
    thread.join()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    opened.listener.close()
    assert json.loads(said) == [[200, 200, 200, 200], 0, 200, True]


@BOTH
def test_change_while_the_stream_begins_is_told_at_once(app, how, monkeypatch):
    """What happens while the first snapshot is made does not wait for the next sign of life, nor do later changes."""
    breaker = circuit_breaker("payments")
    real = app.picture.as_json
    monkeypatch.setattr(app.picture, "as_json", lambda: (real(), breaker.isolate())[0])
    app.feed.heartbeat = 1000
    with served(app, how) as url, streaming(f"{url}api/events") as read_until:
        read_until(b'"new":"isolated"')
        breaker.reset()
        read_until(b'"old":"isolated"')


def test_request_that_drips_is_given_up(app, monkeypatch):
    """A client that sends a byte now and then has as long for all of its request as one that sends nothing."""
    monkeypatch.setattr(server._Requests, "timeout", 0.2)
    with serve(app, port=0) as served_here, socket.create_connection(("127.0.0.1", served_here.port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\nX: ")
        client.settimeout(0.02)

        def given_up():
            try:
                client.sendall(b"x")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        assert wait_until(given_up)


def test_streams_leave_threads_to_other_servers(app):
    """Under a WSGI server that is not ours, which may have four threads, two pages are live, and the next one asks."""
    environ = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": "/api/events", "wsgi.multithread": True}
    told = []
    open_now = [app.wsgi(dict(environ), lambda status, _: told.append(status)) for _ in range(3)]
    assert told == ["200 OK", "200 OK", "503 Service Unavailable"]
    open_now[0].close()
    app.wsgi(dict(environ), lambda status, _: told.append(status)).close()
    assert told[-1] == "200 OK"
    open_now[1].close()
