"""What is wrong with parameters is found before anything runs, all of it at once, and without showing secrets."""

import pathlib
import subprocess
import sys
from datetime import timedelta

import pytest

from resilient.errors import ConfigurationError
from resilient.orchestrator.executor import adapted
from resilient.orchestrator.executors import shipped
from resilient.orchestrator.executors.parameters import Parameters
from resilient.orchestrator.model import RecoveryStepType

from .helpers import context, step

EXECUTORS = {str(kind): executor for kind, executor in shipped().items()}


def said(kind, **parameters):
    return [f"{path}: {text}" for path, text in EXECUTORS[kind].problems(step(kind, **parameters))]


def test_shipped():
    """There is one executor for each shipped type but approvals and custom steps, and an engine takes each of them."""
    assert set(shipped()) == set(RecoveryStepType) - {RecoveryStepType.APPROVAL, RecoveryStepType.CUSTOM}
    undoing = {kind for kind, one in EXECUTORS.items() if adapted(one, step_type=kind).rollback is not None}
    assert undoing == {"service_restart", "configuration_update", "database_restore"}


def test_import_is_light():
    """Importing the model of the orchestrator loads no executor."""
    code = "import sys, resilient.orchestrator.model as m; print([n for n in sys.modules if '.executors' in n])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "[]"


GOOD = [
    ("health_check", {"url": "http://host:8080/health", "interval": 0.5, "successes": 3}),
    ("health_check", {"host": "db1", "port": 5432, "deadline": timedelta(seconds=5)}),
    ("health_check", {"callable": "package.module:function"}),
    ("health_check", {"callable": bool}),
    ("service_restart", {"command": ["service", "web", "restart", pathlib.Path("web.conf"), 3]}),
    ("service_restart", {"unit": "web@1.service", "rollback_command": ["true"], "environment": {"LEVEL": 3}}),
    ("cache_clear", {"target": {}}),
    ("cache_clear", {"target": "payments"}),
    ("cache_clear", {"path": "pages", "root": "/var/cache/site"}),
    ("configuration_update", {"path": "a.json", "set": {"server.port": 80, "x": None}}),
    ("configuration_update", {"path": "settings", "format": "env", "set": {"PORT": 80}}),
    ("data_validation", {"callable": bool}),
    ("data_validation", {"query": "SELECT 1", "connection": "sqlite:///a.db", "expect": {"min": 1, "rows": 2}}),
    ("database_restore", {"source": "a.db", "target": pathlib.Path("b.db")}),
    ("database_restore", {"source": "a.dump", "target": "postgresql://u:p@h/db?sslmode=require"}),
    ("database_restore", {"source": "postgresql:///db", "target": "a.dump", "busy_timeout": 0}),
]


@pytest.mark.parametrize(("kind", "parameters"), GOOD)
def test_good_parameters(kind, parameters):
    """What can work is not objected to."""
    assert said(kind, **parameters) == []


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("health_check", {"url": "${parameters.url}", "interval": "${parameters.often}"}),
        ("health_check", {"url": "http://${parameters.host}/health"}),
        ("health_check", {"host": "${parameters.host}", "port": "${parameters.port}"}),
        ("health_check", {"callable": "${parameters.check}"}),
        ("service_restart", {"command": "${parameters.command}"}),
        ("service_restart", {"command": ["service", "${parameters.name}"], "environment": {"A": "${parameters.a}"}}),
        ("service_restart", {"unit": "web@${parameters.n}.service"}),
        ("cache_clear", {"path": "${parameters.path}", "root": "${parameters.root}"}),
        ("configuration_update", {"path": "${parameters.path}", "set": {"a": "${parameters.a}"}}),
        ("configuration_update", {"path": "a.json", "set": "${parameters.set}"}),
        (
            "data_validation",
            {"query": "${parameters.q}", "connection": "${parameters.c}", "expect": {"rows": "${x.y}"}},
        ),
        ("database_restore", {"source": "${parameters.source}", "target": "${parameters.target}"}),
    ],
)
def test_references(kind, parameters):
    """A parameter with a reference in it is not judged before the reference is known."""
    assert said(kind, **parameters) == []


BAD = [
    (
        "health_check",
        {},
        ["url: expected exactly one of url, host with port, callable, got none"],
    ),
    (
        "health_check",
        {"url": "http://h/", "callable": bool, "interval": "soon", "successes": 0, "tries": 3},
        [
            "tries: expected one of url, host, port, callable, interval, successes, probe_timeout, deadline, status,"
            ' got "tries"',
            "callable: expected exactly one of url, host with port, callable, got url and callable",
            'interval: expected a positive number of seconds, got "soon"',
            "successes: expected a whole number of at least 1, got 0",
        ],
    ),
    (
        "health_check",
        {"url": "file:///etc/passwd"},
        ["url: expected a URL such as http://host:8080/health, of http or"],
    ),
    ("health_check", {"url": "ftp://host/a"}, ["url: expected a URL"]),
    ("health_check", {"url": "http://host:x/"}, ["url: expected a URL"]),
    ("health_check", {"host": "db1"}, ["port: expected the number of a port, got none"]),
    ("health_check", {"host": "db1", "port": 70000}, ["port: expected a whole number from 1 to 65535, got 70000"]),
    ("health_check", {"callable": 3}, ['callable: expected a function, or "package.module:function", got a number']),
    ("health_check", {"callable": bool, "port": 3}, ["port: expected none without host, got one"]),
    (
        "health_check",
        {"url": "http://h/", "interval": True},
        ["interval: expected a positive number of seconds, got true"],
    ),
    ("service_restart", {}, ["command: expected exactly one of command, unit, got none"]),
    (
        "service_restart",
        {"command": "service web restart ${parameters.x}"},
        [
            'command: expected a list of texts such as ["/etc/init.d/web", "restart"], got a text'
            " (no shell takes it apart; write each word by itself)"
        ],
    ),
    ("service_restart", {"command": ["a", None]}, ["command[1]: expected a text, got nothing"]),
    ("service_restart", {"command": []}, ["command: expected a list of texts"]),
    ("service_restart", {"unit": "-all"}, ["unit: expected the name of a systemd unit such as web.service"]),
    ("service_restart", {"unit": "web;reboot"}, ["unit: expected the name of a systemd unit"]),
    (
        "service_restart",
        {"command": ["a"], "environment": {"A": 1.5}},
        ["environment.A: expected a text, got a number"],
    ),
    ("cache_clear", {"path": "pages"}, ["root: expected the absolute path of the directory"]),
    ("cache_clear", {"path": "pages", "root": "var"}, ["root: expected an absolute path, got a relative one"]),
    ("cache_clear", {"target": 3}, ["target: expected an object with clear(), or the name of one, got a number"]),
    ("cache_clear", {"target": {}, "root": "/a"}, ["root: expected none without path, got one"]),
    ("configuration_update", {}, ["path: expected the path", "set: expected a table of keys and values, got none"]),
    ("configuration_update", {"path": "a.ini", "set": {"a": 1}}, ["path: expected a name that ends in .toml, .json"]),
    ("configuration_update", {"path": "a.json", "set": {}}, ["set: expected at least one key, got none"]),
    (
        "configuration_update",
        {"path": "a.toml", "set": {"a": None}},
        ["set.a: expected a value that TOML has a word for"],
    ),
    ("configuration_update", {"path": "a.json", "set": {"a": float("nan")}}, ["set.a: expected a value that JSON"]),
    ("configuration_update", {"path": ".env", "set": {"a-b": 1, "C": []}}, ["set.a-b: expected", "set.C: expected"]),
    ("configuration_update", {"path": "a.json", "set": {"a..b": 1}}, ['set."a..b": expected keys with dots']),
    ("data_validation", {}, ["callable: expected exactly one of callable, query, got none"]),
    (
        "data_validation",
        {"query": "SELECT 1"},
        ["connection: expected a connection", "expect: expected what the query"],
    ),
    ("data_validation", {"callable": bool, "connection": "x:y"}, ["connection: expected none without query, got one"]),
    (
        "data_validation",
        {"query": "SELECT 1", "connection": "mysql://x", "expect": {"row": 1, "rows": -1}},
        ["connection: expected a connection", "expect.row: expected one of", "expect.rows: expected a whole number"],
    ),
    ("database_restore", {}, ["source: expected the path", "target: expected the path"]),
    (
        "database_restore",
        {"source": "postgresql://a/b", "target": "postgresql://a/c"},
        ["target: expected the path of"],
    ),
    ("database_restore", {"source": "a", "target": "mysql://a/c"}, ["target: expected a path, or a URL such as"]),
    ("database_restore", {"source": "a", "target": "postgresql://host"}, ["target: expected a path, or a URL such as"]),
]


@pytest.mark.parametrize(("kind", "parameters", "begins"), BAD)
def test_bad_parameters(kind, parameters, begins):
    """Everything that is wrong is reported, each with its parameter, what was expected and what was given."""
    found = said(kind, **parameters)
    assert len(found) == len(begins), found
    for sentence, beginning in zip(sorted(found), sorted(begins), strict=True):
        assert sentence.startswith(beginning), found
        assert ", got " in sentence


@pytest.mark.parametrize(("kind", "parameters"), [(kind, parameters) for kind, parameters, _ in BAD])
def test_bad_parameters_when_run(kind, parameters):
    """A step with impossible parameters raises ConfigurationError when it is run, and is not to be tried again."""
    with pytest.raises(ConfigurationError, match=f"parameters of {kind} step 'work'") as caught:
        EXECUTORS[kind].execute(step(kind, **parameters), context())
    assert not caught.value.is_retryable()


def test_secrets_in_parameters():
    """The message about a parameter that may be a secret shows nothing of it."""
    stray = "hunter2-secret"
    found = [
        *said("service_restart", command=stray),
        *said("service_restart", command=["a"], environment={"A": [stray]}),
        *said("configuration_update", path="a.toml", set={"a": {stray, None}}),
        *said("database_restore", source="a", target=f"mysql://u:{stray}@h/db"),
        *said("health_check", url=f"gopher://u:{stray}@h/"),
        *said("data_validation", query="SELECT 1", expect=1, connection=f"mysql://u:{stray}@h"),
    ]
    assert len(found) == 6
    assert stray not in "".join(found)


def test_unresolved_reference_when_run():
    """When a step is run, a text with a reference sign in it is judged like any other."""
    with pytest.raises(ConfigurationError, match="interval: expected a positive number"):
        EXECUTORS["health_check"].execute(step("health_check", url="http://h/", interval="${x}"), context())


def test_numbers_that_a_reference_brings_as_text():
    """What comes from a command line as text of digits is a number where one is needed; in a plan itself it is not."""
    values = {"port": "8080", "interval": "0.5", "other": "x"}
    for resolved in (True, False):
        given = Parameters(values, tuple(values), resolved=resolved)
        found = given.count("port", 1), given.seconds("interval", 1.0), given.count("other", 1)
        assert found == ((8080, 0.5, 1) if resolved else (1, 1.0, 1))
        assert len(given.problems) == (1 if resolved else 3)
