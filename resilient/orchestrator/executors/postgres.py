"""PostgreSQL databases, by `pg_dump`, `pg_restore` and `psql`; passwords go by the environment only."""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from resilient.orchestrator.executors import commands
from resilient.orchestrator.executors.failures import ActionFailedError
from resilient.orchestrator.executors.keeping import Keeper
from resilient.orchestrator.model import RecoveryContext

_SCHEMES = ("postgresql", "postgres")

# What a restore has brought need not have been there before, and then no dump from before drops it.
_WIPE = """
DO $wipe$
DECLARE one record;
BEGIN
  FOR one IN
    SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', n.nspname) AS command, 0 AS turn FROM pg_namespace n
    WHERE n.nspname NOT IN ('public', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = n.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('DROP %s IF EXISTS %I.%I CASCADE', CASE c.relkind WHEN 'v' THEN 'VIEW'
        WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
      'public', c.relname), CASE c.relkind WHEN 'S' THEN 2 ELSE 1 END FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure), 3 FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype IN ('e', 'i'))
    UNION ALL
    SELECT format('DROP %s IF EXISTS %I.%I CASCADE', CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END,
      'public', t.typname), 4 FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typnamespace = 'public'::regnamespace AND (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    ORDER BY turn
  LOOP
    EXECUTE one.command;
  END LOOP;
END
$wipe$;
"""


class Server(NamedTuple):
    """A database: its address without a password, what goes into the environment, and the address to show people."""

    address: str
    environment: dict[str, str]
    text: str
    database: str


def is_address(text: str) -> bool:
    """Whether a text is the URL of a PostgreSQL database."""
    return text.partition("://")[0] in _SCHEMES and "://" in text


def problem(url: str) -> str | None:
    """What is wrong with a URL, without showing it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a text that is no URL"
    if not parts.path.strip("/"):
        return "a URL without the name of a database"
    if any(key.lower() == "sslpassword" for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "one with sslpassword, which other users of the machine would see"
    return None


def server(url: str) -> Server:
    """The database at a URL."""
    parts = urlsplit(url)
    who, at, hosts = parts.netloc.rpartition("@")
    user, _, password = who.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    password = next((value for key, value in query if key == "password"), unquote(password))
    kept = urlencode([(key, value) for key, value in query if key != "password"])
    address = f"postgresql://{user}{at if user else ''}{hosts}{parts.path}{f'?{kept}' if kept else ''}"
    environment = {"PGCONNECT_TIMEOUT": os.environ.get("PGCONNECT_TIMEOUT", "10")}
    if password:
        environment["PGPASSWORD"] = password
    return Server(address, environment, f"postgresql://{hosts}{parts.path}", unquote(parts.path.strip("/")))


def dump(source: Server, file: Path, context: RecoveryContext, *, plain: bool = False) -> None:
    """Write a database to a file: in PostgreSQL's own format, or as SQL."""
    form = ["--format=plain", "--clean", "--if-exists"] if plain else ["--format=custom"]
    _run(["pg_dump", *form, "--no-password", f"--file={file}", f"--dbname={source.address}"], source, context)


def restore(source: Path, target: Server, context: RecoveryContext) -> str:
    """Bring a dump into a database, in one transaction; returns the program that did it."""
    if not _is_archive(source):
        _psql(target, [source], context)
        return "psql"
    how = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error", "--no-password"]
    _run(["pg_restore", *how, f"--dbname={target.address}", str(source)], target, context)
    return "pg_restore"


def put_back(keeper: Keeper, target: Server, context: RecoveryContext) -> bool:
    """Make the database again what it was when it was dumped, in one transaction; False where no dump is kept."""
    keeper.sweep()
    if not keeper.backup.exists():
        return False
    with keeper.new() as wipe, keeper.new() as script:
        wipe.write_text(_WIPE, "utf-8")
        script.chmod(0o600)
        words = ["pg_restore", "--clean", "--if-exists", f"--file={script}", str(keeper.backup)]
        _run(words, target, context)
        _psql(target, [wipe, script], context)
    keeper.forget()
    return True


def _psql(target: Server, files: list[Path], context: RecoveryContext) -> None:
    how = ["--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
    _run(["psql", *how, f"--dbname={target.address}", *(f"--file={file}" for file in files)], target, context)


def _run(words: list[str], where: Server, context: RecoveryContext) -> None:
    program = shutil.which(words[0])
    if program is None:
        raise ActionFailedError(f"{words[0]} is not on PATH; install the client programs of PostgreSQL")
    secret = where.environment.get("PGPASSWORD", "")
    try:
        commands.succeeded(
            [program, *words[1:]],
            context,
            environment=where.environment,
            hidden=[secret],
            first=signal.SIGINT,  # lets them cancel what the server is doing for them
        )
    except ActionFailedError as error:
        raise ActionFailedError(f"{where.text}: {error}") from None


def _is_archive(source: Path) -> bool:
    """Whether a dump is one for pg_restore; otherwise it is SQL."""
    if source.is_dir():
        if not (source / "toc.dat").is_file():
            raise ActionFailedError(f"source={source}: is a directory, but no dump of pg_dump")
        return True
    with source.open("rb") as file:
        begin = file.read(5)
    if begin[:2] == b"\x1f\x8b":
        raise ActionFailedError(f"source={source}: is compressed by gzip; unpack it in a step before this one")
    return begin == b"PGDMP" or tarfile.is_tarfile(source)
