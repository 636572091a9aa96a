"""A PostgreSQL server of our own, where there is one to be had."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from .helpers import eventually

PASSWORD = "p@ss/word-hunter2"  # noqa: S105 - of a server that lives as long as the tests


def _programs():
    for folder in [*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), *os.get_exec_path()]:
        if all(shutil.which(name, path=folder) for name in ("initdb", "postgres")):
            return Path(folder)
    if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
        pytest.fail("PostgreSQL is not installed, and RESILIENT_REQUIRE_SERVERS is set")
    return pytest.skip("PostgreSQL is not installed")


@pytest.fixture(scope="session")
def postgres_server():
    """Start a PostgreSQL server on a free port of this machine; gives its URL up to the name of a database."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    # The server refuses to run as root.
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, **user)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = folder / "data"
    options = ["--auth=scram-sha-256", "--username=boss", f"--pwfile={secret}", "--no-sync", "--locale=C", "-E", "UTF8"]
    subprocess.run(  # noqa: S603
        [programs / "initdb", *options, "-D", data], check=True, capture_output=True, cwd=folder, **user
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
    words = [programs / "postgres", "-D", data, *(part for one in settings for part in ("-c", one))]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, **user)  # noqa: S603
    url = f"postgresql://boss:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:{port}"
    try:
        eventually(lambda: ask(f"{url}/postgres", "SELECT 1", check=False) == "1", 60)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def ask(url, query, *, check=True):
    """What a query gives, by psql; the password is in the URL."""
    words = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", query, url]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 0 or not check, ended.stderr
    return ended.stdout.strip()
