"""Steps of `data_validation`: functions, and queries on real connections."""

import sqlite3
import threading
from datetime import date
from decimal import Decimal

import pytest

from resilient.orchestrator.executors import ActionFailedError, ActionStoppedError, DataValidationExecutor, expectations

from .helpers import Stop, context, names, step

validation = DataValidationExecutor()


def validate(told=None, **parameters):
    return validation.execute(step("data_validation", **parameters), told or context())


@pytest.fixture
def file(tmp_path):
    """Make a database with a few orders."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, state TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, ?)", [(1, "paid"), (2, "open"), (3, None)])
    connection.close()
    return path


ALL = "SELECT id, state FROM orders ORDER BY id"
COUNT = "SELECT count(*) FROM orders"


@pytest.mark.parametrize(
    ("query", "expect"),
    [
        (COUNT, 3),
        (COUNT, 3.0),
        (COUNT, {"equals": 3}),
        (COUNT, {"min": 1, "max": 3}),
        (COUNT, {"min": 3}),
        (ALL, 1),
        (ALL, {"rows": 3}),
        (ALL, {"min_rows": 1, "max_rows": 3, "equals": 1}),
        (ALL, [[1, "paid"], [2, "open"], [3, None]]),
        ("SELECT id FROM orders", [1, 2, 3]),
        ("SELECT id FROM orders WHERE id > 3", []),
        ("SELECT id FROM orders WHERE id > 3", {"rows": 0}),
        ("SELECT NULL", {"equals": None}),
        ("SELECT state FROM orders", "paid"),
    ],
)
def test_query(file, query, expect):
    """A query passes where it gives what is expected."""
    assert validate(query=query, connection=f"sqlite:///{file}", expect=expect)["rows"] >= 0


@pytest.mark.parametrize(
    ("query", "expect", "said"),
    [
        (COUNT, 4, "expected 4, got 3"),
        (COUNT, "3", "expected '3', got 3"),
        (COUNT, {"min": 4, "max": 9}, "expected at least 4 and at most 9, got 3"),
        (COUNT, {"min": "a"}, "expected at least 'a', got 3"),
        ("SELECT NULL", {"min": 1}, "expected at least 1, got None"),
        (ALL, {"rows": 2}, "expected 2 rows, got 3"),
        (ALL, {"min_rows": 4}, "expected at least 4 rows, got 3"),
        (ALL, {"max_rows": 2}, "expected at most 2 rows, got 3"),
        (ALL, [[1, "paid"]], r"expected the rows \[\[1, 'paid'\]\], got \[\[1, 'paid'\], \[2, 'open'\]\]"),
        (f"{ALL} LIMIT 0", 1, "expected 1, got no row"),
        (f"{ALL} LIMIT 0", {"rows": 0, "equals": 1}, "expected 1, got no row"),
        ("SELECT 1 FROM nowhere", 1, "failed: OperationalError: no such table: nowhere"),
        ("DELETE FROM orders", 1, "failed: OperationalError: attempt to write a readonly database"),
        ("BEGIN", 1, "the query gives no rows"),
    ],
)
def test_query_that_fails(file, query, expect, said):
    """A query fails with what was expected and what came; and nothing is written."""
    with pytest.raises(ActionFailedError, match=said):
        validate(query=query, connection=f"sqlite:///{file}", expect=expect)
    assert validate(query=COUNT, connection=f"sqlite:///{file}", expect=3)["value"] == 3


def test_long_answers(file):
    """What came is shown shortened."""
    with pytest.raises(ActionFailedError) as caught:
        validate(query="SELECT hex(zeroblob(100000))", connection=f"sqlite:///{file}", expect=1)
    assert len(str(caught.value)) < 400


def test_arguments(file):
    """What a query asks for is handed to the driver, not written into it."""
    one = validate(
        query="SELECT id FROM orders WHERE state = ?", arguments=["open"], connection=f"sqlite:///{file}", expect=2
    )
    assert one == {"rows": 1, "value": 2}
    query = "SELECT count(*) FROM orders WHERE state = :state"
    assert validate(query=query, arguments={"state": "x' OR 1"}, connection=f"sqlite:///{file}", expect=0)["rows"] == 1


def test_missing_database(tmp_path):
    """A database file that is not there is an error, and is not made."""
    with pytest.raises(ActionFailedError, match="there is no such database file"):
        validate(query="SELECT 1", connection=f"sqlite:///{tmp_path}/gone.db", expect=1)
    assert names(tmp_path) == []


MADE = []


class Watched(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.closed = False
        MADE.append(self)

    def close(self):
        self.closed = True
        super().close()


def connect():
    return sqlite3.connect(":memory:", factory=Watched)


@pytest.mark.parametrize("way", [connect, f"{__name__}:connect"])
def test_connection_that_is_opened(way):
    """A connection that a function has opened is closed, whether all went well or not."""
    MADE.clear()
    validate(query="SELECT 1", connection=way, expect=1)
    with pytest.raises(ActionFailedError):
        validate(query="SELECT x", connection=way, expect=1)
    assert [one.closed for one in MADE] == [True, True]


def test_connection_that_is_given():
    """A connection that was given stays open."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    validate(query="SELECT 1", connection=connection, expect=1)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize(("way", "said"), [("os:sep", "opens a connection"), (dict, "returns a connection")])
def test_connection_that_is_none(way, said):
    """What leads to no connection is an error that says what would."""
    with pytest.raises(ValueError, match=f"connection.*expected a function that {said}"):
        validate(query="SELECT 1", connection=way, expect=1)


def test_stopped_query(file):
    """A query that takes long is interrupted when the step is stopped."""
    before, stop = threading.active_count(), Stop()
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    with pytest.raises(ActionStoppedError):
        validate(context(stopped=stop), query=endless, connection=f"sqlite:///{file}", expect=1)
    assert stop.ago < 0.2
    for thread in threading.enumerate():
        if thread.name == "resilient-recovery-call":
            thread.join(5)
    assert threading.active_count() <= before


def test_callable():
    """A function has to return what is true, or what is expected."""
    assert validate(callable=lambda: 3) == {"value": 3}
    assert validate(callable=lambda: 0, expect=0) == {"value": 0}
    assert validate(callable=lambda: [1, 2], expect={"rows": 2})
    assert validate(callable=lambda: [(1, "a")], expect=[[1, "a"]])
    assert validate(callable=lambda context: context.step_id, expect="work")
    with pytest.raises(ActionFailedError, match="expected something true, got None; return True"):
        validate(callable=lambda: None)
    with pytest.raises(ActionFailedError, match="expected at least 4, got 3"):
        validate(callable=lambda: 3, expect={"min": 4})
    with pytest.raises(ActionFailedError, match="expected a list of rows, got a number"):
        validate(callable=lambda: 3, expect={"rows": 4})
    with pytest.raises(ZeroDivisionError):
        validate(callable=lambda: 1 / 0)


def test_callable_async():
    """An async function is awaited."""

    async def fine():
        return "yes"

    assert validate(callable=fine) == {"value": "yes"}


@pytest.mark.parametrize(
    ("expect", "value", "alike"),
    [
        (1, True, True),
        (1.5, Decimal("1.5"), True),
        (0.1, Decimal("0.1"), True),
        ("2024-01-31", date(2024, 1, 31), True),
        ("2024-01-31", date(2024, 1, 30), False),
        ("1.50", Decimal("1.5"), True),
        ("a", None, False),
        (None, None, True),
        ([1, [2]], (1, (2,)), True),
        ([1], 1, False),
        ("1", 1, False),
    ],
)
def test_same(expect, value, alike):
    """What a file can say is compared with what a driver gives: texts stand for times and decimals, numbers do not."""
    assert expectations.same(expect, value) is alike
