"""The reference page has what the code has: options, routes, actions, keys, events and log records."""

import inspect
import re
from pathlib import Path

import pytest

from resilient import registry
from resilient.web import StatusApp, StatusServer, access, feed, messages, serve, status_app
from resilient.web.actions import ACTIONS
from resilient.web.history import Rates

from .asking import body, get

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status-page.md"
TEXT = PAGE.read_text("utf-8")


def column(heading):
    """What stands in the first column of the table with this heading, without its backticks."""
    rows = TEXT.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, f"no table is headed {heading}"
    return [row.split("|")[1].strip().strip("`") for row in rows]


@pytest.mark.parametrize(("function", "nth"), [(status_app, 0), (serve, 1)])
def test_options(function, nth):
    """Each parameter is in the table of its function, with its default."""
    table = re.findall(r"\| parameter \|.*?\n\n", TEXT, re.DOTALL)[nth]
    rows = {row.split("|")[1].strip(" `"): row.split("|")[3].strip(" `") for row in table.strip().splitlines()[2:]}
    signature = inspect.signature(function).parameters
    assert rows.keys() == signature.keys()
    for name, parameter in signature.items():
        default = parameter.default
        shown = "required" if default is parameter.empty else repr(default).replace("'", '"')
        assert rows[name] == shown


@pytest.mark.parametrize(
    ("kind", "heading"), [(StatusApp, "member of `StatusApp`"), (StatusServer, "member of `StatusServer`")]
)
def test_members(kind, heading):
    """What is named as a member is one."""
    for name in column(heading):
        if not name.startswith("app("):
            assert hasattr(status_app(registry), name.partition("(")[0]) or hasattr(kind, name.partition("(")[0])


def test_routes(acting):
    """Every route of the table answers to its method, and the app has no other."""
    routes = [route.split(" ") for route in column("route")]
    gets = {path for method, path in routes if method == "GET"}
    assert gets == {*acting._gets(), "/session"}
    posts = {path for method, path in routes if method == "POST"}
    assert posts == {"/session", "/session/end", *(f"/actions/{action}" for action in ACTIONS)}


def test_actions():
    """The actions are those there are."""
    assert column("action") == list(ACTIONS)


def test_keys(app):
    """The keys of the snapshot, of a rate and of readiness are those that are sent."""
    assert column("key of the snapshot") == list(body(get(app, "/api/snapshot")))
    assert column("field of a rate") == [*Rates._fields, "state"]
    assert column("key of `/readyz`") == list(body(get(app, "/readyz")))


def test_log_records():
    """Every event name that the code logs is in the table, and no other."""
    folder = Path(inspect.getfile(status_app)).parent
    source = "".join(path.read_text("utf-8") for path in folder.rglob("*.py"))
    assert set(column("`record.event`")) == set(re.findall(r'"(web\.\w+)"', source))


def test_events_of_the_stream():
    """Every event name that the code sends is in the table, and no other."""
    folder = Path(inspect.getfile(status_app)).parent
    source = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    sent = set(re.findall(r'as_line\(\s*"(\w+)"', source)) | set(re.findall(r"event: (\w+)\\n", source))
    assert set(column("event of the stream")) == sent


def test_headers(app):
    """The headers that every answer has are listed."""
    sent = {name for name, _ in get(app, "/healthz").all_headers()} - {"Content-Type", "Content-Length"}
    assert set(column("header of every answer")) == sent


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (r"less than (\d+) characters", access.SHORT_TOKEN),
        (r"of (\d+) events", feed.LONGEST_QUEUE),
        (r"At most (\d+) streams", feed.MOST_STREAMS),
        (r"at most (\d+) events are told", feed.MOST_A_SECOND),
        (r"Every (\d+) s without news", feed.HEARTBEAT),
        (r"at most (\d+) KiB", messages.LONGEST_BODY // 1024),
        (r"or (\d+) from all", access.WRONG_FROM_ALL),
    ],
)
def test_numbers(words, value):
    """Limits in the text are those of the code."""
    assert [int(found) for found in re.findall(words, TEXT)] == [value]
