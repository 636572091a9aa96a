"""A service whose database file is damaged, and a recovery plan that a circuit breaker starts.

    python docs/examples/recovery/recover.py

Everything is real: a service in a process of its own, a SQLite file that is overwritten, a backup, a restart. First the
plan restores the service; then the same plan fails half-way, and leaves everything as it was. It takes a few seconds,
leaves nothing behind, and exits with 0 only if all of this came true.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from resilient import CircuitOpenError, CircuitState, circuit_breaker, registry
from resilient.orchestrator import (
    ExecutionStatus,
    RecoveryEvent,
    RecoveryEventType,
    RecoveryOrchestrator,
    RecoveryPlan,
    SqliteJournal,
    StepFailedError,
)

HERE = Path(__file__).resolve().parent
PATIENCE = 20.0  # seconds, for a machine that is busy with other things
without_proxy = build_opener(ProxyHandler({}))


def tell(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - a story is to be told


def check(promise: str, kept: bool) -> None:
    """Say that a promise was kept; the end of everything where it was not."""
    if not kept:
        sys.exit(f"   NOT KEPT: {promise}")
    tell(f"   kept: {promise}")


class Shop:
    """A folder with the database of the orders, two backups of it, and the service that runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "orders.db"
        self.old_backup = folder / "last-week.db"
        self.backup = folder / "last-night.db"

    def create_database(self) -> None:
        """Make a database without orders."""
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("create table orders (number integer primary key, title text not null)")
            connection.commit()

    def back_up(self, file: Path) -> None:
        """Copy the database while it is used."""
        with closing(sqlite3.connect(self.database)) as origin, closing(sqlite3.connect(file)) as copy:
            origin.backup(copy)

    def damage(self) -> None:
        """Overwrite the beginning of the database, as a broken disk might."""
        with self.database.open("r+b") as file:
            file.write(b"\xde\xad\xbe\xef" * 1024)

    def service(self) -> dict[str, Any]:
        """The address and the process of the service that runs now."""
        found: dict[str, Any] = json.loads((self.folder / "service.json").read_text(encoding="utf-8"))
        return found

    def picture(self) -> dict[str, str]:
        """Everything in the folder that a recovery might change, byte for byte."""
        files = [one for one in self.folder.iterdir() if not one.name.startswith("recovery.db")]
        return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Run the service, under a supervisor that ends with this block and with this process."""
        command = [sys.executable, str(HERE / "supervisor.py"), "run", str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE):  # noqa: S603 - our own program
            until((self.folder / "supervisor.json").exists)
            yield


def until(comes_true: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread or process."""
    end = time.monotonic() + PATIENCE
    while not comes_true():
        if time.monotonic() > end:
            sys.exit("   NOT KEPT: it takes a few seconds")
        time.sleep(0.02)


class Client:
    """Places orders. Two failures in a row open the breaker, and then the service is left alone."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    @circuit_breaker("orders", failure_threshold=2, recovery_timeout=60, half_open_calls=2, expected_exception=OSError)
    def place(self, title: str) -> int:
        """The number of the order; an OSError where the service cannot take it."""
        request = Request(f"{self._shop.service()['address']}/orders", title.encode(), method="POST")  # noqa: S310 - ours
        with without_proxy.open(request, timeout=PATIENCE) as answer:
            return int(json.load(answer)["order"])

    def try_to_place(self, title: str) -> int | None:
        """As `place`, and tell what comes of it."""
        try:
            number = self.place(title)
        except HTTPError as error:
            with error:
                tell(f"   the service answers {error.code}: {json.load(error)['error']}")
            return None
        except CircuitOpenError as rejection:
            tell(f"   not called: {rejection}")
            return None
        tell(f"   order {number}: {title}")
        return number


def tell_event(event: RecoveryEvent) -> None:
    error = event.data.get("error") if event.event_type is RecoveryEventType.STEP_FAILED else None
    what = event.event_type.value.replace("_", " ")
    step = "" if event.step_id is None else f" {event.step_id}"
    tell(f"   {event.elapsed:5.2f} s  {what}{step}{f': {error}' if error else ''}")


def before(shop: Shop, client: Client) -> None:
    tell("1. The service takes orders, and there are two backups.")
    shop.back_up(shop.old_backup)
    for title in ("Emma", "Persuasion", "Sanditon"):
        client.try_to_place(title)
    shop.back_up(shop.backup)


def plan_completes(shop: Shop, client: Client, orchestrator: RecoveryOrchestrator, parameters: dict[str, Any]) -> None:
    breaker, old = registry.circuit_breakers["orders"], shop.service()["pid"]
    # Once it has ended, it is not started again for five minutes.
    with orchestrator.on_open("orders", plan="restore-orders", parameters=parameters, cooldown=300) as trigger:
        tell("\n2. The database file is damaged. Two calls fail, the breaker opens, and starts the plan.")
        shop.damage()
        client.try_to_place("Lady Susan")
        client.try_to_place("Lady Susan")
        until(lambda: trigger.execution_id is not None)
        execution = orchestrator.wait_for(trigger.execution_id or "", timeout=PATIENCE)
        until(lambda: breaker.state is not CircuitState.OPEN)
    check("the plan completed", execution.status is ExecutionStatus.COMPLETED)
    check("another process serves", shop.service()["pid"] != old)
    tell("\n3. The breaker lets probes through at once, and closes.")
    check("orders are taken again", client.try_to_place("Lady Susan") == 4)
    check("none was lost", client.try_to_place("Mansfield Park") == 5)
    check("the breaker is closed", breaker.state is CircuitState.CLOSED)


def plan_fails(shop: Shop, client: Client, orchestrator: RecoveryOrchestrator, parameters: dict[str, Any]) -> None:
    tell("\n4. The file is damaged again, and somebody runs the plan with the wrong backup.")
    shop.damage()
    client.try_to_place("Northanger Abbey")
    earlier, service = shop.picture(), shop.service()
    try:
        orchestrator.execute_plan("restore-orders", parameters | {"backup": str(shop.old_backup)})
    except StepFailedError as error:
        tell(f"   {error}")
        execution = orchestrator.get_execution_status(error.execution_id or "")
    else:
        sys.exit("   NOT KEPT: the plan fails with a backup that is too old")
    restored = execution.step_results["restore"].status
    check("the execution was rolled back", execution.status is ExecutionStatus.ROLLED_BACK)
    check("the restored database was taken away again", restored is ExecutionStatus.ROLLED_BACK)
    check("every file is as it was, byte for byte", shop.picture() == earlier)
    check("the service was not touched, and is the same process", shop.service() == service)
    check("it is as broken as before, and nothing worse", client.try_to_place("Northanger Abbey") is None)


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        shop = Shop(Path(name))
        shop.create_database()
        client = Client(shop)
        parameters = {
            "database": str(shop.database),
            "backup": str(shop.backup),
            "least_orders": 3,
            "python": sys.executable,
            "supervisor": str(HERE / "supervisor.py"),
            "folder": str(shop.folder),
        }
        with shop.open(), RecoveryOrchestrator(SqliteJournal(shop.folder / "recovery.db")) as orchestrator:
            orchestrator.register_plan(RecoveryPlan.load(HERE / "plan.toml"))
            orchestrator.subscribe(tell_event)
            before(shop, client)
            plan_completes(shop, client, orchestrator, parameters)
            plan_fails(shop, client, orchestrator, parameters)
    tell("\nEverything was as promised.")


if __name__ == "__main__":
    main()
