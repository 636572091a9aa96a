"""Time limits handed to HTTP clients, and libraries that are only imported when they are asked for."""

import subprocess
import sys
from datetime import timedelta

import aiohttp
import httpx
import pytest
import requests

from resilient import ConfigurationError
from resilient.strategies import RecoveryStrategyConfig, TimeoutSettings
from resilient.timeout.smart import SmartTimeout

API = RecoveryStrategyConfig.for_external_api().timeout


def test_httpx():
    """httpx gets connect, read and write, and waits for its pool as long as for a connection."""
    made = API.as_httpx()
    assert isinstance(made, httpx.Timeout)
    assert made.as_dict() == {"connect": 3.0, "read": 10.0, "write": 10.0, "pool": 3.0}
    with httpx.Client(timeout=made) as client:
        assert client.timeout == made


def test_requests():
    """requests gets the pair it knows."""
    made = API.as_requests()
    assert made == (3.0, 10.0)
    with requests.Session() as session, pytest.raises(requests.ConnectionError):
        session.get("http://127.0.0.1:9", timeout=made)


def test_aiohttp():
    """aiohttp gets the total, too."""
    made = API.as_aiohttp()
    assert isinstance(made, aiohttp.ClientTimeout)
    assert (made.total, made.connect, made.sock_connect, made.sock_read) == (15.0, 3.0, 3.0, 10.0)
    smart = SmartTimeout(2.0)
    assert TimeoutSettings(total=smart).as_aiohttp().total == smart.current_limit()


def test_no_limit_and_timedelta():
    """None is no limit, and a timedelta is as good as seconds."""
    made = TimeoutSettings(connect=timedelta(seconds=2), read=None)
    assert made.as_requests() == (2.0, None)
    assert made.as_httpx().read is None
    assert made.as_aiohttp().sock_read is None


@pytest.mark.parametrize("way", ["as_httpx", "as_requests", "as_aiohttp"])
@pytest.mark.parametrize("value", [0, -1, "5", True])
def test_impossible_limits(way, value):
    """An impossible limit is refused here, and not somewhere inside the client."""
    with pytest.raises(ConfigurationError, match=r"timeout\.connect="):
        getattr(TimeoutSettings(connect=value), way)()
    with pytest.raises(ConfigurationError, match=r"timeout\.total="):
        TimeoutSettings(total="x").as_aiohttp()


@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
def test_a_client_that_is_missing(name, monkeypatch):
    """A library that is not installed is named, with how to get it."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=f"as_{name}.*pip install {name}"):
        getattr(API, f"as_{name}")()


def test_lazy_imports():
    """Importing strategies, and decorating with one, loads none of the optional libraries."""
    code = (
        "import sys, resilient.strategies as s\n"
        "s.RecoveryStrategyConfig.for_database('x')(len)\n"
        "heavy = {'pydantic', 'yaml', 'httpx', 'requests', 'aiohttp', 'jsonschema', 'huey', 'redis', 'psutil'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own code
    assert done.stdout.strip() == "[]"
