"""A bookshop that reads its stock from a database, through a circuit breaker, and lets itself be watched.

    python3 app.py          customers ask all the time; the status page and the metrics are beside it
    python3 app.py heal     the same, and when the breaker opens, it starts the recovery plan
    python3 app.py break    damages the database

docs/tutorial-observe.md walks through it. The files are made in the current folder.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from prometheus_client import start_http_server

from resilient import circuit_breaker, degrade, metrics, registry
from resilient.events import CircuitStateChanged
from resilient.orchestrator import RecoveryOrchestrator, RecoveryPlan, SqliteJournal
from resilient.web import serve, status_app

STATUS_PORT = 8000
METRICS_PORT = 9464
DATABASE, BACKUP = Path("stock.db"), Path("backup.db")


@degrade(fallback="ask at the desk", name="stock")
@circuit_breaker("stock", failure_threshold=5, recovery_timeout=3, half_open_calls=3, expected_exception=sqlite3.Error)
def pieces(book: str) -> str:
    """How many pieces of a book there are, as a customer is told."""
    with closing(sqlite3.connect(DATABASE)) as connection:
        (count,) = connection.execute("select pieces from stock where book = ?", (book,)).fetchone()
    return f"{count} pieces"


def create() -> None:
    """Make a database anew, and a backup of it."""
    DATABASE.unlink(missing_ok=True)
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        connection.execute("create table stock (book text primary key, pieces integer not null)")
        connection.executemany("insert into stock values (?, ?)", [("Emma", 3), ("Persuasion", 5), ("Sanditon", 1)])
    shutil.copy(DATABASE, BACKUP)


def damage() -> None:
    """Overwrite the beginning of the database, as a broken disk might."""
    with DATABASE.open("r+b") as file:
        file.write(b"\xde\xad\xbe\xef" * 1024)


def tell(event: CircuitStateChanged) -> None:
    """Say on the terminal what the breaker does."""
    say(f"breaker {event.name}: {event.old.value} -> {event.new.value}")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - a person watches


def sell() -> None:
    """Customers: ten questions a second, until Ctrl-C."""
    while True:
        for book in ("Emma", "Persuasion", "Sanditon"):
            pieces(book)
            time.sleep(0.1)


def run(*, heal: bool) -> None:
    """Open the shop, and show how it is."""
    create()
    metrics.install()
    start_http_server(METRICS_PORT, "127.0.0.1")
    with RecoveryOrchestrator(SqliteJournal("recovery.db")) as orchestrator:
        orchestrator.register_plan(RecoveryPlan.load("plan.toml"))
        if heal:
            orchestrator.on_open("stock", plan="restore-stock", cooldown=10)
        page = status_app(registry, critical=["stock"], orchestrator=orchestrator)
        with serve(page, port=STATUS_PORT) as server, registry.subscribe(tell, CircuitStateChanged):
            say(f"status page: {server.url}")
            say(f"metrics:     http://127.0.0.1:{METRICS_PORT}/metrics")
            with suppress(KeyboardInterrupt):
                sell()


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            run(heal=False)
        case ["heal"]:
            run(heal=True)
        case ["break"]:
            damage()
        case _:
            sys.exit(__doc__)
