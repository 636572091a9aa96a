"""Steps of `health_check`, against real servers on this machine."""

import asyncio
import http.server
import socket
import sys
import threading
import time

import pytest

from resilient.orchestrator.executors import ActionFailedError, ActionStoppedError, HealthCheckExecutor

from .helpers import Stop, context, step

check = HealthCheckExecutor()


def look(**parameters):
    return check.execute(step("health_check", **{"interval": 0.01} | parameters), context())


@pytest.fixture
def site():
    """Serve answers that the test lines up: statuses, or the places to redirect to; the last one stays."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append(self.path)
            self.server.logins.append(self.headers["Authorization"])
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(302 if isinstance(answer, str) else answer)
            if isinstance(answer, str):
                self.send_header("Location", answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.seen, server.logins = [200], [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_url(site):
    """An HTTP probe goes on until the site has answered well so many times in a row."""
    site.answers = [503, 200, 500, 200, 204, 200]
    found = look(url=f"{site.url}/health", successes=3)
    assert {**found, "elapsed": None} == {"probes": 6, "successes": 3, "status": 200, "elapsed": None}
    assert site.seen == ["/health"] * 6
    assert 0.05 <= found["elapsed"] < 10


def test_url_deadline(site):
    """A site that is not well before the deadline fails the step, with what it answered last, but no password."""
    site.answers = [503]
    url = site.url.replace("//", "//user:hunter2@")
    with pytest.raises(ActionFailedError) as caught:
        look(url=f"{url}/health?token=abc", deadline=0.5)
    text = str(caught.value)
    assert text.startswith(f"{site.url}/health was not well within 0.5 s:")
    assert text.endswith("last: it answered with status 503")
    assert caught.value.is_retryable()


def test_url_login(site):
    """User and password of a URL are told to its server, and to none that it redirects to."""
    site.answers = ["/elsewhere", 200]
    look(url=site.url.replace("//", "//user:p%40ss@"))
    assert site.logins == ["Basic dXNlcjpwQHNz", None]


def test_url_status(site):
    """With `status`, that answer alone is a good one."""
    site.answers = [200, 418]
    assert look(url=site.url, status=418)["probes"] == 2


def test_url_redirects(site, tmp_path):
    """Redirects are followed within HTTP, and nowhere else."""
    site.answers = ["/elsewhere", 200]
    assert look(url=site.url)["probes"] == 1
    assert site.seen == ["/", "/elsewhere"] or site.seen == ["", "/elsewhere"]
    (tmp_path / "page").write_text("well")
    for place in (f"file://{tmp_path}/page", "ftp://127.0.0.1/page"):
        site.answers = [place]
        with pytest.raises(ActionFailedError, match="last: it answered with status 302"):
            look(url=site.url, deadline=0.5)


def test_url_without_proxy(site, monkeypatch):
    """What is on this machine is asked without the proxy of the environment."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert look(url=site.url)["status"] == 200


def test_url_with_proxy(site, monkeypatch):
    """What is elsewhere is asked through the proxy of the environment."""
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert look(url="http://elsewhere.invalid/health")["status"] == 200
    assert site.seen == ["http://elsewhere.invalid/health"]


def test_tcp():
    """A TCP probe is good as soon as somebody accepts the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = look(host="127.0.0.1", port=port, successes=2)
        assert (found["probes"], found["status"]) == (2, None)
    with pytest.raises(ActionFailedError, match=f"^127.0.0.1 port {port} was not well within 0.3 s.*Refused"):
        look(host="127.0.0.1", port=port, deadline=0.3)


def test_not_http():
    """What does not speak HTTP is not well, and the executor goes on asking."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-x\r\n")
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert look(url=f"http://127.0.0.1:{server.getsockname()[1]}/")["probes"] == 3
        thread.join()


def test_hanging_probe():
    """A probe that gets no answer counts as bad after its own time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(ActionFailedError, match=r"last: (no answer|TimeoutError: timed out)"):
            look(url=url, probe_timeout=0.05, deadline=0.2)


def answers_of(*answers):
    left = list(answers)

    def ask():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_callable():
    """A function says that all is well by returning what is true; None, False and exceptions say that it is not."""
    assert look(callable=answers_of(False, None, OSError("down"), 0, "fine"))["probes"] == 5


def test_callable_async():
    """An async function is awaited."""
    ask = answers_of(False, True)

    async def aask():
        await asyncio.sleep(0)
        return ask()

    assert look(callable=aask)["probes"] == 2


def test_callable_context():
    """A function that takes the context gets it."""
    seen = []

    def named(*, context=None):
        return seen.append(context.step_id) or True

    def positional(told):
        return seen.append(told.step_id) or True

    look(callable=named)
    look(callable=positional)
    assert seen == ["work", "work"]


def test_callable_by_name():
    """A function can be named by its module, and a name that leads nowhere is an error at once."""
    assert look(callable="os:getpid")["probes"] == 1
    for name in ("os:gone", "no_such_module_here:gone"):
        with pytest.raises(ValueError, match=name):
            look(callable=name)


def test_callable_that_hangs():
    """Of a function that hangs no second thread is started, and an async one is cancelled."""
    calls, cancelled, end = [], threading.Event(), threading.Event()

    def hang():
        calls.append(1)
        end.wait(10)

    async def ahang():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ActionFailedError, match=r": 1 probe, 0 good at the end; last: no answer"):
        look(callable=hang, probe_timeout=0.03, deadline=0.15)
    end.set()
    assert calls == [1]
    with pytest.raises(ActionFailedError, match=r"last: no answer$") as caught:
        look(callable=ahang, probe_timeout=0.03, deadline=0.05)
    assert cancelled.wait(5), caught.value


def test_late_answer():
    """An answer that comes after the time of its probe does not count; the next probe's does."""
    end, calls = threading.Event(), []

    def slow():
        calls.append(1)
        return len(calls) > 1 or end.wait(10)

    threading.Timer(0.1, end.set).start()
    assert look(callable=slow, probe_timeout=0.03)["probes"] == 2


def test_callable_that_exits():
    """A function that ends by SystemExit, or cancels itself, is not well, and ends nothing else."""

    async def cancels():
        raise asyncio.CancelledError

    for function, said in ((sys.exit, "SystemExit"), (cancels, "CancelledError")):
        with pytest.raises(ActionFailedError, match=f"last: ActionFailedError: the function ended by {said}"):
            look(callable=function, deadline=0.2)


@pytest.mark.parametrize("hangs", [True, False])
def test_stopped(hangs):
    """A step that is stopped ends at once, between its probes as well as amid one."""
    end, stop = threading.Event(), Stop()
    with pytest.raises(ActionStoppedError):
        check.execute(
            step("health_check", callable=lambda: end.wait(10) if hangs else False, interval=10),
            context(stopped=stop),
        )
    assert stop.ago < 0.2
    end.set()


def test_interval(site):
    """Between two probes there is the interval."""
    site.answers = [503, 503, 200]
    began = time.monotonic()
    look(url=site.url, interval=0.05)
    assert time.monotonic() - began >= 0.1
