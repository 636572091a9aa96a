"""Orders, in a SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from resilient import retry
from shop import client


class Orders:
    """The orders of one file. Each has a key of its own, so that placing it twice makes one order."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with closing(self.connect()) as connection, connection:
            connection.execute("create table orders (key text primary key, book text not null, price integer not null)")

    def connect(self) -> sqlite3.Connection:
        """A connection that does not wait for those who hold a lock: the retry does."""
        return sqlite3.connect(self.file, timeout=0)

    def place(self, key: str, book: str) -> str:
        """Ask for the price, and keep the order; returns its key."""
        self._keep(key, book, client.price(book))
        return key

    @retry(max_attempts=8, on=sqlite3.OperationalError, base_delay=0.02, max_delay=0.2)
    def _keep(self, key: str, book: str, price: int) -> None:
        with closing(self.connect()) as connection, connection:
            connection.execute("insert or ignore into orders values (?, ?, ?)", (key, book, price))

    def keys(self) -> list[str]:
        """All orders."""
        with closing(self.connect()) as connection:
            return [key for (key,) in connection.execute("select key from orders")]
