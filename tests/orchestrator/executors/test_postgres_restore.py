"""Steps of `database_restore` with a real PostgreSQL server."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from resilient.orchestrator.executors import ActionFailedError, ActionStoppedError, DatabaseRestoreExecutor, postgres

from .conftest import PASSWORD, ask
from .helpers import Stop, alive, context, eventually, names, step

restoring = DatabaseRestoreExecutor()
FORMATS = ["custom", "tar", "directory", "plain"]


@pytest.fixture
def make(postgres_server, request):
    """Return a function that makes a database from SQL and gives its URL."""
    made = []

    def database(sql):
        name = f"shop_{os.urandom(4).hex()}"
        ask(f"{postgres_server}/postgres", f"CREATE DATABASE {name}")
        made.append(name)
        ask(f"{postgres_server}/{name}", sql)
        return f"{postgres_server}/{name}"

    yield database
    for name in made:
        ask(f"{postgres_server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")


GOOD = """
CREATE SCHEMA extra; CREATE TYPE extra.mood AS ENUM ('fine');
CREATE TABLE extra.moods (mood extra.mood); INSERT INTO extra.moods VALUES ('fine');
CREATE TABLE orders (id serial PRIMARY KEY, state text); INSERT INTO orders (state) VALUES ('good');
CREATE TABLE only_there (id int GENERATED ALWAYS AS IDENTITY, order_id int REFERENCES orders);
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE VIEW paid AS SELECT * FROM orders;
CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE TYPE pair AS (a int, b small);
"""
OLD = """
CREATE TABLE orders (id serial PRIMARY KEY, state text); INSERT INTO orders (state) VALUES ('old'), ('older');
CREATE TABLE only_here (id int PRIMARY KEY); INSERT INTO only_here VALUES (2);
CREATE TABLE mine (id int REFERENCES only_here);
CREATE MATERIALIZED VIEW states AS SELECT DISTINCT id FROM only_here;
CREATE FUNCTION thrice(n int) RETURNS int LANGUAGE sql AS 'SELECT 3 * n';
CREATE TABLE parts (n int) PARTITION BY RANGE (n); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9);
SELECT lo_from_bytea(4242, 'large'::bytea);
"""


def picture(url):
    """The whole database as SQL, without what differs from dump to dump."""
    words = ["pg_dump", "--format=plain", f"--dbname={url}"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def dumped(url, file, form="custom"):
    words = ["pg_dump", f"--format={form}", f"--file={file}", f"--dbname={url}"]
    subprocess.run([*words, *(["--clean", "--if-exists"] if form == "plain" else [])], check=True)  # noqa: S603
    return file


def restore(source, target, told=None, **parameters):
    return restoring.execute(step("database_restore", source=source, target=target, **parameters), told or context())


def undo(source, target):
    return restoring.rollback(step("database_restore", source=source, target=target), context(undoing=True))


@pytest.mark.parametrize("form", FORMATS)
def test_restore(make, tmp_path, form):
    """A dump of any form becomes the content of the database, and rollback brings back exactly what was there."""
    source = dumped(make(GOOD), tmp_path / "good", form)
    target = make(OLD)
    before = picture(target)
    found = restore(source, target)
    assert found["method"] == ("psql" if form == "plain" else "pg_restore")
    assert ask(target, "SELECT state FROM orders") == "good"
    assert ask(target, "SELECT twice(2) || mood::text FROM extra.moods") == "4fine"
    assert os.stat(found["backup"]).st_mode & 0o777 == 0o600
    assert undo(source, target)["restored"]
    assert picture(target) == before
    assert names(tmp_path) == ["good"]
    assert not undo(source, target)["restored"]


def test_repetition(make, tmp_path):
    """A repetition with the same key keeps the state from before the first attempt."""
    source, target = dumped(make(GOOD), tmp_path / "good.dump"), make(OLD)
    before = picture(target)
    first = restore(source, target)
    assert restore(source, target) == first
    undo(source, target)
    assert picture(target) == before


def test_rollback_without_execute(make, tmp_path):
    """Rollback of a step that never ran does nothing."""
    target = make(OLD)
    before = picture(target)
    assert not undo(tmp_path / "good.dump", target)["restored"]
    assert picture(target) == before


def test_restore_that_fails(make, tmp_path):
    """A dump that is broken half-way changes nothing."""
    source, target = tmp_path / "good.sql", make(OLD)
    before = picture(target)
    source.write_text("DROP TABLE only_here CASCADE; SELECT 1/0;")
    with pytest.raises(ActionFailedError, match=r"(?s)psql ended with exit code 3: .*division by zero"):
        restore(source, target)
    assert picture(target) == before
    ask(target, "CREATE VIEW mine_too AS SELECT * FROM orders")
    before = picture(target)
    with pytest.raises(ActionFailedError, match="other objects depend on it"):
        restore(dumped(make(GOOD), tmp_path / "other.dump"), target)
    assert picture(target) == before
    whole = dumped(make(GOOD), tmp_path / "good.dump")
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ActionFailedError, match="pg_restore ended with exit code 1"):
        restore(whole, target)
    assert picture(target) == before


@pytest.mark.parametrize("name", ["out.dump", "out.sql"])
def test_dump(make, tmp_path, name):
    """Or else it writes a dump, private and fit to be restored; rollback brings back the file from before."""
    source, target = make(GOOD), tmp_path / name
    target.write_text("before")
    assert restore(source, target)["method"] == "pg_dump"
    assert target.read_bytes().startswith(b"PGDMP" if name == "out.dump" else b"--\n-- PostgreSQL")
    undo(source, target)
    assert target.read_text() == "before"
    target.unlink()
    restore(source, target)
    assert target.stat().st_mode & 0o777 == 0o600
    restore(target, source, context("run-3"))
    assert restore(target, make(""), context("run-2"))["method"] in {"pg_restore", "psql"}


def test_password(make, tmp_path):
    """The password is in no argument, no error and no output, wherever in the URL it stood."""
    target = make(OLD)
    dumped(make(GOOD), tmp_path / "good.dump")
    found = restore(tmp_path / "good.dump", target)
    assert PASSWORD not in str(found)
    assert "hunter2" not in str(found)
    for url in (f"{target}_gone", target.replace("boss:", "nobody:")):
        with pytest.raises(ActionFailedError) as caught:
            restore(tmp_path / "good.dump", url, context("run-2"))
        assert "hunter2" not in str(caught.value)
    told = postgres.server("postgresql://u@h1:1,h2:2/d%20b?password=hunter2&sslmode=require")
    assert told.address == "postgresql://u@h1:1,h2:2/d%20b?sslmode=require"
    assert told.environment["PGPASSWORD"] == "hunter2"
    assert told.text == "postgresql://h1:1,h2:2/d%20b"
    assert told.database == "d b"


def test_arguments(tmp_path, monkeypatch):
    """What other users of the machine see of the programs has no password in it; a stop ends them."""
    program, seen = tmp_path / "pg_dump", tmp_path / "seen"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nopen({str(seen)!r}, 'w').write("
        "f'{os.getpid()} {sys.argv} {os.environ[\"PGPASSWORD\"]}')\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "good.dump").write_bytes(b"PGDMP")
    began = []

    def stopped():
        if not began and seen.exists() and seen.read_text().endswith("hunter2"):
            began.append(time.monotonic())
        return bool(began)

    with pytest.raises(ActionStoppedError):
        restore(tmp_path / "good.dump", "postgresql://u:hunter2@127.0.0.1:9/db", context(stopped=stopped))
    assert time.monotonic() - began[0] < 0.3
    pid, _, rest = seen.read_text().partition(" ")
    assert rest.count("hunter2") == 1
    assert not alive(int(pid))
    assert names(tmp_path) == ["good.dump", "pg_dump", "seen"]


def test_stopped(make, tmp_path):
    """A restore that waits for somebody's lock ends at once when it is stopped, and nothing has changed."""
    target = make(OLD)
    before = picture(target)
    words = ["psql", "-X", "-q", target, "-c", "BEGIN; LOCK TABLE only_here IN ROW EXCLUSIVE MODE; SELECT pg_sleep(60)"]
    other = subprocess.Popen(words)  # noqa: S603
    locks = "SELECT count(*) FROM pg_locks WHERE relation = 'only_here'::regclass AND mode = 'RowExclusiveLock'"
    try:
        eventually(lambda: ask(target, locks) == "1")
        stop = Stop(1.5)
        drop = tmp_path / "drop.sql"
        drop.write_text("DROP TABLE only_here;")
        with pytest.raises(ActionStoppedError):
            restore(drop, target, context(stopped=stop))
        assert stop.ago < 0.3
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        eventually(lambda: ask(target, waiting) == "0", 2)
    finally:
        other.kill()
        other.wait(10)
        ask(
            target,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()",
        )
    assert picture(target) == before


def test_without_programs(tmp_path, monkeypatch):
    """Where the programs are missing, the error says which."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "good.dump").write_bytes(b"PGDMP")
    with pytest.raises(ActionFailedError, match="pg_dump is not on PATH; install the client programs"):
        restore(tmp_path / "good.dump", "postgresql://127.0.0.1/db")


@pytest.mark.parametrize(("how", "said"), [("missing", "no such file"), ("folder", "no dump"), ("gzip", "unpack it")])
def test_bad_source(make, tmp_path, how, said):
    """A source that is no dump is refused, and the database is as it was."""
    source, target = tmp_path / "good.dump", make(OLD)
    if how == "folder":
        source.mkdir()
    elif how == "gzip":
        source.write_bytes(b"\x1f\x8b1234")
    with pytest.raises(ActionFailedError, match=said):
        restore(source, target)
    assert ask(target, "SELECT count(*) FROM orders") == "2"


def test_programs_are_there(postgres_server):
    """The server's client programs are on PATH, so that the tests above speak with the real ones."""
    assert all(shutil.which(name) for name in ("pg_dump", "pg_restore", "psql"))
