"""Steps of `data_validation`: functions, and queries on real connections."""

import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from resilient.orchestrator import RecoveryOrchestrator, RecoveryPlan
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


@pytest.fixture
def orchestrator():
    with RecoveryOrchestrator() as made:
        yield made


def in_another_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_connection_of_the_main_thread(file, orchestrator):
    """A SQLite connection made where the plan is registered is good for a step, whatever its rows are, and stays."""
    connection = sqlite3.connect(file)
    connection.row_factory = lambda cursor, row: {"only": row[0]}
    work = step("data_validation", query=COUNT, connection=connection, expect=3)
    orchestrator.register_plan(RecoveryPlan("check", "Check", [work]))
    for _ in range(2):
        assert orchestrator.get_execution_status(orchestrator.execute_plan("check")).step_results["work"]["value"] == 3
    assert connection.execute(COUNT).fetchone() == {"only": 3}
    connection.close()


def test_connection_that_no_step_can_use(file):
    """A connection that only another thread may use, in memory or not known, or a closed one, is refused before."""
    in_memory = sqlite3.connect(":memory:")
    other = ThreadPoolExecutor(1)
    foreign = other.submit(sqlite3.connect, file).result()
    closed = sqlite3.connect(file)
    closed.close()
    for connection, said in (
        (in_memory, "check_same_thread=False, or a function.*in memory"),
        (foreign, "check_same_thread=False, or a function.*not this one"),
        (closed, "expected an open connection, got a closed one"),
    ):
        [(name, text)] = validation.problems(step("data_validation", query=COUNT, connection=connection, expect=3))
        assert name == "connection"
        assert re.search(said, text)
    in_memory.close()
    other.submit(foreign.close).result()
    other.shutdown()


@pytest.mark.parametrize("kind", [str, Path])
def test_connection_by_path(file, kind, tmp_path):
    """A path is a SQLite file, opened for reading; it is not made where it is missing."""
    assert validate(query=COUNT, connection=kind(file), expect=3)["value"] == 3
    with pytest.raises(ActionFailedError, match="attempt to write a readonly database"):
        validate(query="DELETE FROM orders RETURNING id", connection=kind(file), expect=1)
    with pytest.raises(ActionFailedError, match="there is no such database file"):
        validate(query="SELECT 1", connection=kind(tmp_path / "gone.db"), expect=1)
    assert names(tmp_path) == ["shop.db"]


@pytest.mark.parametrize("text", ["postgresql://me:hunter2@db/shop", "host=db password=hunter2", ":memory:", ""])
def test_texts_that_are_no_way_to_a_connection(text):
    """Other texts than paths and names are refused before, and not shown, as passwords may be in them."""
    [(name, said)] = validation.problems(step("data_validation", query=COUNT, connection=text, expect=3))
    assert (name, "hunter2" in said) == ("connection", False)
    assert "the path of a SQLite file" in said


def test_expect_that_is_a_function(file):
    """A function as expectation is asked: with the only value, or with all rows; async ones are awaited."""
    asked = []

    def judge(answer):
        asked.append(answer)
        return True

    async def never(answer):
        return False

    assert validate(query=COUNT, connection=file, expect=judge)["value"] == 3
    assert validate(query=ALL, connection=file, expect=judge)["rows"] == 3
    assert validate(query=f"{ALL} LIMIT 0", connection=file, expect=judge)["rows"] == 0
    assert validate(callable=lambda: [7], expect=judge) == {"value": "[7]"}
    assert asked == [3, [(1, "paid"), (2, "open"), (3, None)], [], [7]]
    with pytest.raises(ActionFailedError, match=r"expected .*never\(\) to return something true for 3"):
        validate(query=COUNT, connection=file, expect=never)
    with pytest.raises(ActionFailedError, match=r"expected .*lambda>\(\) to return something true for 0"):
        validate(callable=lambda: 0, expect=lambda value: value > 0)


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


@pytest.mark.parametrize(("value", "shown"), [(float("inf"), "inf"), (2**5000, "a number of 5001 bits"), (7, 7)])
def test_output_fits_a_journal(value, shown):
    """What no JSON has a word for comes out as text."""
    assert validate(callable=lambda: value) == {"value": shown}
