"""Faults raise what the real libraries raise: the right class, the errno, the fields that handlers look at."""

import asyncio
import errno
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import httpx
import pytest
import requests

import resilient
from resilient import BulkheadFullError, ConfigurationError, circuit_breaker, retry
from resilient.testing import VirtualClock, faults, inject


def meet(fault):
    """What a call that meets the fault raises."""
    target = circuit_breaker(failure_threshold=5)(lambda: "answer")
    with inject(target, fault), pytest.raises(BaseException) as raised:  # noqa: PT011 - the caller looks at it
        target()
    return raised.value


# The network


def test_refused_is_as_the_system_refuses():
    """The error of an injected refusal equals the one of a real connection to a closed port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError) as real:
        socket.create_connection(("127.0.0.1", port), timeout=5)
    error = meet(faults.NetworkFailure())
    assert type(error) is type(real.value)
    assert (error.errno, error.strerror) == (real.value.errno, real.value.strerror)


def test_reset():
    """A reset is ConnectionResetError with ECONNRESET."""
    error = meet(faults.NetworkFailure("reset"))
    assert type(error) is ConnectionResetError
    assert error.errno == errno.ECONNRESET


def test_dns_is_as_the_resolver_fails():
    """A failed name look-up is socket.gaierror with the number of an unknown name."""
    error = meet(faults.NetworkFailure("dns"))
    assert type(error) is socket.gaierror
    assert error.errno == socket.EAI_NONAME


def test_blackhole_is_silence_and_then_the_systems_timeout():
    """A blackhole says nothing for its patience, and then what the system says."""
    target = retry(max_attempts=1)(lambda: "answer")
    fault = faults.NetworkFailure("blackhole", patience=20)
    with VirtualClock(autojump=True) as clock, inject(target, fault):
        began = clock.monotonic()
        with pytest.raises(TimeoutError) as raised:
            target()
        assert clock.monotonic() - began == pytest.approx(20)
    assert raised.value.errno == errno.ETIMEDOUT


# Databases


def test_database_locked_equals_the_real_one(tmp_path):
    """Class, message, code and name are those of the error that a locked file gives."""
    one, two = (sqlite3.connect(tmp_path / "file.db", timeout=0) for _ in range(2))
    try:
        one.execute("begin exclusive")
        with pytest.raises(sqlite3.OperationalError) as real:
            two.execute("begin exclusive")
    finally:
        one.close()
        two.close()
    error = meet(faults.DatabaseTimeout())
    assert type(error) is type(real.value)
    for field in ("args", "sqlite_errorcode", "sqlite_errorname"):
        assert getattr(error, field) == getattr(real.value, field)


def test_database_timeout_waits_first():
    """The database lets its caller wait for `after` seconds."""
    target = retry(max_attempts=1)(lambda: "answer")
    with VirtualClock(autojump=True) as clock, inject(target, faults.DatabaseTimeout(after=5)):
        began = clock.monotonic()
        with pytest.raises(sqlite3.OperationalError):
            target()
        assert clock.monotonic() - began == pytest.approx(5)


OTHER_LIBRARIES = """
import sys, types
psycopg, errors = types.ModuleType("psycopg"), types.ModuleType("psycopg.errors")
class QueryCanceled(Exception):
    pass
errors.QueryCanceled = QueryCanceled
sqlalchemy, exc = types.ModuleType("sqlalchemy"), types.ModuleType("sqlalchemy.exc")
class OperationalError(Exception):
    def __init__(self, statement, params, orig):
        super().__init__(statement)
        self.orig = orig
exc.OperationalError = OperationalError
sys.modules.update({"psycopg": psycopg, "psycopg.errors": errors, "sqlalchemy": sqlalchemy, "sqlalchemy.exc": exc})
from resilient.testing import faults
for library in "psycopg", "sqlalchemy":
    try:
        faults.DatabaseTimeout(library).before((), {})
    except Exception as error:
        print(type(error).__name__, error, getattr(error, "orig", ""), sep=": ")
"""


def test_other_databases():
    """psycopg's and SQLAlchemy's faults are their own classes, the latter around the driver's error."""
    printed = _python(OTHER_LIBRARIES).splitlines()
    assert printed[0].startswith("QueryCanceled: canceling statement due to statement timeout")
    assert printed[1] == "OperationalError: (injected): database is locked"


def test_missing_library_is_told_at_once():
    """A fault of a library that is not installed is refused where it is made, not in the middle of a test."""
    hidden = 'import sys; sys.modules["psycopg.errors"] = None; from resilient.testing import faults\n'
    printed = _python(hidden + 'try: faults.DatabaseTimeout("psycopg")\nexcept ImportError as error: print(error)')
    assert "psycopg" in printed


def _python(code):
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own
    assert result.returncode == 0, result.stderr
    return result.stdout


# HTTP


def _send():
    """Send a request that was made before."""
    with httpx.Client() as client:
        return client.send(httpx.Request("GET", "http://example.invalid/a"))


async def _aget():
    async with httpx.AsyncClient() as client:
        return await client.get("http://example.invalid/a")


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("requests:get", lambda: requests.get("http://example.invalid/a", timeout=1)),
        ("requests:Session.get", lambda: requests.Session().get("http://example.invalid/a")),
        ("requests:Session.request", lambda: requests.Session().request("GET", url="http://example.invalid/a")),
        ("httpx:get", lambda: httpx.get("http://example.invalid/a")),
        ("httpx:Client.send", _send),
        ("httpx:AsyncClient.get", lambda: asyncio.run(_aget())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_http_libraries_answer_503(path, call):
    """Functions of requests and httpx give an answer with status 503, as a server that is not there for us does."""
    with inject(path, faults.ServiceUnavailable(retry_after=7)) as injection:
        response = call()
    assert injection.fired == 1
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert response.text == "Service Unavailable"
    assert str(response.url) == "http://example.invalid/a"
    with pytest.raises((requests.HTTPError, httpx.HTTPStatusError), match="503"):
        response.raise_for_status()


@pytest.mark.parametrize("place", ["decorated", "urllib"])
def test_elsewhere_it_is_an_error(place):
    """Where the function is none of these libraries, the error of urllib is raised, with status and header."""
    if place == "decorated":
        error = meet(faults.ServiceUnavailable(retry_after=1.5))
    else:
        with inject("urllib.request:urlopen", faults.ServiceUnavailable(1.5)), pytest.raises(HTTPError) as raised:
            urllib.request.urlopen("http://example.invalid/a")
        error = raised.value
    assert type(error) is HTTPError
    assert (error.code, error.headers["Retry-After"]) == (503, "1.5")
    error.close()


# The rest


@pytest.mark.parametrize(
    ("resource", "kind", "number"),
    [("descriptors", OSError, errno.EMFILE), ("disk", OSError, errno.ENOSPC), ("memory", MemoryError, None)],
)
def test_exhaustion(resource, kind, number):
    """A resource that has run out raises what the system raises."""
    error = meet(faults.ResourceExhaustion(resource))
    assert type(error) is kind
    assert getattr(error, "errno", None) == number


def test_exhausted_pool():
    """An exhausted pool is a full bulkhead."""
    assert isinstance(meet(faults.ResourceExhaustion("pool")), BulkheadFullError)


def test_configuration():
    """A wrong configuration is the package's own error, with the message."""
    error = meet(faults.ConfigurationError("no such host is set"))
    assert type(error) is resilient.ConfigurationError
    assert isinstance(error, ValueError)
    assert str(error) == "no such host is set"


def test_corrupt_result():
    """The call is made, and its caller gets another result."""
    target = retry(max_attempts=1)(lambda: [1, 2])
    with inject(target, faults.CorruptResult(lambda result: result[:1])):
        assert target() == [1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_custom_gets_the_arguments(kind):
    """An own action is called with the arguments of the call, before it."""
    seen = []

    def action(*args, **kwargs):
        seen.append((args, kwargs))

    async def async_action(*args, **kwargs):
        await asyncio.sleep(0)
        action(*args, **kwargs)

    if kind == "sync":
        target = retry(max_attempts=1)(lambda key, *, deep: len(seen))
        with inject(target, faults.Custom(action)):
            assert target(1, deep=True) == 1
    else:

        @retry(max_attempts=1)
        async def target(key, *, deep):
            return len(seen)

        with inject(target, faults.Custom(async_action)):
            assert asyncio.run(target(1, deep=True)) == 1
    assert seen == [((1,), {"deep": True})]


def test_async_action_in_a_sync_call():
    """An async action of a sync call is refused, and leaves no coroutine that was never awaited."""

    async def action():
        raise AssertionError("never begins")

    assert "async action" in str(meet(faults.Custom(action)))


def test_fault_of_your_own():
    """A class derived from Fault says what happens before a call, how long it takes and what comes of it."""

    class Doubled(faults.Fault):
        def seconds(self):
            return 3.0

        def after(self, result):
            return result * 2

    target = retry(max_attempts=1)(lambda: 21)
    with VirtualClock(autojump=True) as clock, inject(target, Doubled()):
        began = clock.monotonic()
        assert target() == 42
        assert clock.monotonic() - began == pytest.approx(3)


@pytest.mark.parametrize(
    ("make", "kind", "match"),
    [
        (lambda: faults.NetworkFailure("slow"), ConfigurationError, "kind='slow': must be one of refused, reset, dns"),
        (lambda: faults.NetworkFailure("blackhole", patience=-1), ConfigurationError, "patience=-1"),
        (lambda: faults.DatabaseTimeout("oracle"), ConfigurationError, "library='oracle': must be one of sqlite3"),
        (lambda: faults.DatabaseTimeout(after="x"), ConfigurationError, "after='x'"),
        (lambda: faults.ServiceUnavailable(-1), ConfigurationError, "retry_after=-1"),
        (lambda: faults.ResourceExhaustion("cpu"), ConfigurationError, "resource='cpu': must be one of descriptors"),
        (lambda: faults.Latency("x"), ConfigurationError, "seconds='x'"),
        (lambda: faults.CorruptResult(None), TypeError, "fn=None: must be callable"),
        (lambda: faults.Custom(3), TypeError, "callable=3: must be callable"),
    ],
)
def test_bad_fault(make, kind, match):
    """An impossible fault is refused by name, value and remedy."""
    with pytest.raises(kind, match=match):
        make()


@pytest.mark.parametrize("name", faults.__all__)
def test_every_fault_is_a_fault(name):
    """Everything that the module offers can be injected."""
    assert issubclass(getattr(faults, name), faults.Fault)
