"""Strategies from files: the formats, what is merged over what, and errors that name everything at once."""

import copy
import itertools
import json
import pickle
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import ConfigurationError
from resilient.errors import UnknownNameError
from resilient.strategies import RecoveryStrategyConfig, load
from resilient.strategies.models import PRESETS, file_options
from resilient.strategies.validation import SECTIONS

TOML = """
[payments.retry]
max_attempts = 4
on = ["ConnectionError", "pickle.PickleError"]
jitter = 0.5

[payments.timeout]
total = 2

[payments]
bulkhead = false

["my db"]
preset = "database"
retry.max_attempts = 7
degradation.fallback = {rows = [1, 2]}
"""
DATA = {
    "payments": {
        "retry": {"max_attempts": 4, "on": ["ConnectionError", "pickle.PickleError"], "jitter": 0.5},
        "timeout": {"total": 2},
        "bulkhead": False,
    },
    "my db": {
        "preset": "database",
        "retry": {"max_attempts": 7},
        "degradation": {"fallback": {"rows": [1, 2]}},
    },
}
YAML = """
# comments are fine
payments:
  retry: &patient
    max_attempts: 4
    on: [ConnectionError, pickle.PickleError]
    jitter: 0.5
  timeout: {total: 2}
  bulkhead: false
my db:
  preset: database
  retry:
    max_attempts: 7
  degradation:
    fallback: {rows: [1, 2]}
"""
PYPROJECT = '[project]\nname = "shop"\n[tool.other]\nx = 1\n' + TOML.replace(
    "[payments", "[tool.resilient.payments"
).replace('["my db"]', '[tool.resilient."my db"]').replace(
    "[tool.resilient.payments]\nbulkhead = false", "[tool.resilient.payments]\nbulkhead = false"
)
EXPECTED = {
    "payments": RecoveryStrategyConfig(**DATA["payments"], name="payments"),
    "my db": RecoveryStrategyConfig.for_database("my db").replace(
        retry={"max_attempts": 7}, degradation={"fallback": {"rows": [1, 2]}}
    ),
}


@pytest.fixture
def file(tmp_path):
    """Write a file, and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path):
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("strategies.toml", TOML),
        ("strategies.TOML", b"\xef\xbb\xbf" + TOML.encode()),
        ("strategies.json", json.dumps(DATA)),
        ("schema.json", json.dumps({"$schema": "strategies.schema.json", **DATA})),
        ("strategies.yaml", YAML),
        ("strategies.yml", YAML),
        ("pyproject.toml", PYPROJECT),
    ],
)
def test_formats(file, name, content):
    """The same content makes the same strategies, whatever the format; `on` is a key in YAML too."""
    made = load(file(name, content))
    assert dict(made) == EXPECTED
    assert made["payments"].retry.on == ("ConnectionError", "pickle.PickleError")
    assert made["payments"].policies()[1].config.on[0] is ConnectionError
    assert made["payments"].bulkhead is None
    assert load(str(file(name, content))) == made


def test_the_mapping(file):
    """What is loaded is a read-only mapping, and a name that is not there is answered with those that are."""
    made = load(file("strategies.toml", TOML))
    assert isinstance(made, Mapping)
    assert (len(made), list(made), "payments" in made, made.get("x")) == (2, ["payments", "my db"], True, None)
    assert not hasattr(made, "__setitem__")
    with pytest.raises(UnknownNameError, match=r"no strategy is named 'paymnets'; known: 'my db', 'payments'"):
        made["paymnets"]
    with pytest.raises(TypeError):
        made.written["new"] = {}
    assert "payments" in repr(made)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(file, preset):
    """A preset is what the sections are merged over; other sections are its own."""
    made = load(file("s.json", json.dumps({"x": {"preset": preset, "bulkhead": {"max_concurrent": 3}}})))
    assert made["x"] == PRESETS[preset]().replace(name="x", bulkhead={"max_concurrent": 3})


@pytest.mark.parametrize(
    ("name", "content"), [("s.toml", ""), ("s.json", "{}"), ("s.yaml", ""), ("s.yaml", "# nothing")]
)
def test_empty_files(file, name, content):
    """A file without strategies is a mapping without any."""
    assert dict(load(file(name, content))) == {}


def test_an_empty_strategy(file):
    """A strategy without sections has all defaults."""
    assert load(file("s.toml", "[x]"))["x"] == RecoveryStrategyConfig(name="x")


def test_yaml_merge_keys(file):
    """Anchors and merge keys work, and overriding what is merged is no key given twice."""
    text = "base: {retry: &r {max_attempts: 4, base_delay: 1}}\nx: {retry: {<<: *r, max_attempts: 9}}"
    made = load(file("s.yaml", text))
    assert (made["x"].retry.max_attempts, made["x"].retry.base_delay) == (9, 1)


BAD = {
    "payments": {
        "preset": "databse",
        "retry": {"max_attempts": 0, "base_delay": 20, "on": "NoSuchError", "stop": "never", "jiter": True},
        "timeout": {"total": "5s"},
        "nonsense": {},
    },
    "my db": {"bulkhead": {"max_concurrent": 0}, "circuit_breaker": True, "degradation": 3},
    "third": 3,
}
BAD_LINES = [
    "payments.preset='databse': must be one of database, external_api, cache",
    "payments.retry.max_attempts=0: must be a whole number of at least 1",
    "payments.retry.base_delay=20.0: must not exceed max_delay=10.0",
    "payments.retry.on='NoSuchError': must name exception types",
    "payments.retry.stop: unknown key; allowed: max_attempts, on, ",
    "payments.retry.jiter: unknown key; allowed: max_attempts, on, ",
    "payments.timeout.total='5s': must be seconds",
    "payments.nonsense: unknown key; allowed: preset, retry, circuit_breaker, degradation, timeout, bulkhead",
    '"my db".bulkhead.max_concurrent=0: must be a whole number of at least 1',
    '"my db".circuit_breaker=<bool>: must be a table of options, or false; options: failure_threshold, ',
    '"my db".degradation=<int>: must be a table of options, or false; options: auto_degradation_enabled, ',
    "third=<int>: must be a table with preset, retry, circuit_breaker, degradation, timeout, bulkhead",
]


def test_all_problems_of_a_file_at_once(file):
    """One error names the file and every problem, with path, value and what is allowed."""
    message = refused(file("bad.json", json.dumps(BAD)))
    heading, *lines = message.split("\n  ")
    assert heading.endswith(": 12 problems")
    assert len(lines) == len(BAD_LINES), message
    for start in BAD_LINES:
        assert any(line.startswith(start) for line in lines), (start, message)
    assert "never" not in message


def test_problems_of_a_pyproject(file):
    """In a pyproject.toml the path is that from the top."""
    message = refused(file("pyproject.toml", "[tool.resilient.payments.retry]\nmax_attempts = 0"))
    assert "\n  tool.resilient.payments.retry.max_attempts=0: must be" in message


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("s.ini", "", "must end in .toml, .json, .yaml, .yml"),
        ("strategies", "", "must end in"),
        ("s.toml", "a = ", "is not valid TOML: "),
        ("s.toml", "[a]\n[a]", "is not valid TOML: "),
        ("s.json", "{", "is not valid JSON: "),
        ("s.json", "", "is not valid JSON: "),
        ("s.json", '{"a": {"retry": {}, "retry": {}}}', "the same key twice in one table: 'retry'"),
        ("s.json", "[]", "must be a table of strategies by name, not <list>"),
        ("s.json", "3", "must be a table of strategies by name, not <int>"),
        ("s.json", "[" * 100_000, "nested too deeply"),
        ("s.yaml", "a: [", "is not valid YAML: "),
        ("s.yaml", "a: {retry: {}}\na: {retry: {}}", "the same key twice in one table: 'a' (line 2)"),
        ("s.yaml", "x: {retry: {on: OSError, on: OSError}}", "the same key twice in one table: 'on'"),
        ("s.yaml", "a: !!python/object/apply:os.getcwd []", "is not valid YAML: could not determine a constructor"),
        ("s.yaml", "a: 2024-99-99", "is not valid YAML: "),
        ("s.yaml", "- a", "must be a table of strategies by name"),
        ("s.yaml", "a: {}\n---\nb: {}", "is not valid YAML: "),
        ("s.yaml", "7: {}", "\n  7: the name of a strategy must be a string"),
        ("s.yaml", "~: {}", "\n  None: the name of a strategy must be a string"),
        ("s.yaml", "2020-01-01: {retry: {max_attempts: 0}}", "\n  2020-01-01: the name of a strategy must be a string"),
        ("s.yaml", "x: {1: 2}", "x.1: unknown key; allowed: preset, retry, "),
        ("s.yaml", "x: {retry: {1: 2, null: 3, on: Nothing}}", "x.retry.None: unknown key; allowed: max_attempts, "),
        ("s.yaml", "x: {nonsense: {1: 2}}", "x.nonsense.1: unknown key"),
        ("s.yaml", "x: {retry: {max_attempts: " + "1" * 5000 + "}}", "is not valid YAML: Exceeds the limit"),
        ("s.json", '{"x": {"retry": {"max_attempts": ' + "1" * 5000 + "}}}", "has a value that cannot be read: "),
        ("s.toml", "x.retry.max_attempts = " + "1" * 5000, "has a value that cannot be read: "),
        ("s.yaml", 'x: "\x07"', "is not valid YAML: unacceptable character #x0007"),
        ("s.yaml", "x: \x00", "is not valid YAML: unacceptable character #x0000"),
        ("s.yaml", "x: {retry: }", "x.retry=<NoneType>: must be a table of options, or false"),
        ("s.yaml", "x: {retry: {7: 1}}", "x.retry.7"),
        ("s.toml", b"\xff\xfe", "is not UTF-8 (byte 0)"),
        ("pyproject.toml", "", "has no table [tool]"),
        ("pyproject.toml", "[tool.other]", "has no table [tool.resilient]"),
        ("pyproject.toml", "[tool]\nresilient = 3", "must be a table of strategies by name, not <int>"),
        ("s.toml", '["  "]', "name='  ': must not be empty"),
        ("s.toml", "x.timeout.total = nan", "x.timeout.total=nan: must be seconds"),
        ("s.json", '{"x": {"timeout": {"total": Infinity}}}', "x.timeout.total=inf: must be seconds"),
        ("s.toml", "x.retry.max_attempts = 2024-01-01", "x.retry.max_attempts=datetime.date(2024, 1, 1): must be"),
        ("s.toml", "x.retry.max_attempts = 3.5", "x.retry.max_attempts=3.5: must be a whole number"),
        ("s.toml", "x.retry.retry_exhausted = 1", "x.retry.retry_exhausted=1: must be True or False"),
    ],
)
def test_files_that_cannot_be_read(file, name, content, problem):
    """What is wrong with a file as a whole is said in one sentence with its name."""
    assert problem in refused(file(name, content))


def test_a_recursive_yaml_file(file):
    """A table that contains itself is refused, and does not hang."""
    assert "1 problem" in refused(file("s.yaml", "x: &x {retry: *x}"))


def test_no_file_and_no_right_to_read(tmp_path):
    """A file that is not there, or is none, is a ConfigurationError, too."""
    assert "cannot be read: No such file" in refused(tmp_path / "missing.toml")
    (tmp_path / "folder.toml").mkdir()
    assert "cannot be read: " in refused(tmp_path / "folder.toml")
    assert "cannot be read: embedded null byte" in refused("a\0b.toml")


@pytest.mark.parametrize(("missing", "name", "content"), [("pydantic", "s.toml", "[x]"), ("yaml", "s.yaml", "x: {}")])
def test_missing_libraries(file, monkeypatch, missing, name, content):
    """Without the optional libraries, the error says what to install."""
    from resilient.strategies import models

    models._strategies.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"pip install resilient-toolkit\[config\]"):
        load(file(name, content))


def test_secrets_are_not_shown(file):
    """Neither the value of a misplaced key nor the whole of a long one is in the message."""
    secret = "correct horse battery staple " * 5 + "tail"
    message = refused(file("s.json", json.dumps({"x": {"password": secret, "retry": {"on": secret, "key": secret}}})))
    assert message.count("correct") == 2  # of the one under `on`: as the value, and as the name that leads nowhere
    assert "correct horse battery staple" not in message


@pytest.mark.parametrize(
    "content", ["hunter2", {"x": "hunter2"}, {"x": {"retry": "hunter2"}}, {"$schema": ["hunter2"]}]
)
def test_what_stands_in_the_place_of_a_table_is_not_shown(file, content):
    """It may be a secret, and is told of by its type alone."""
    message = refused(file("s.json", json.dumps(content)))
    assert "hunter2" not in message
    assert "<str>" in message or "<list>" in message


WORDS = st.sampled_from(
    [*SECTIONS, *PRESETS, "preset", "max_attempts", "on", "total", "fallback", "$schema"]
) | st.text(max_size=4)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
CONTENT = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=6
)


@settings(max_examples=40)
@given(st.dictionaries(WORDS, st.dictionaries(WORDS, CONTENT) | CONTENT))
def test_any_content(tmp_path_factory, content):
    """Whatever a file says: it loads, and then every strategy works, or all that is wrong is one error."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    try:
        made = load(path)
    except ConfigurationError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - either may happen
    else:
        assert all(one.validate() == [] for one in made.values())


def test_what_a_file_can_say():
    """Every option is one of a file, but for those that are code."""
    code = {section: set(kind.__dataclass_fields__) - set(file_options(section)) for section, kind in SECTIONS.items()}
    assert code == {
        "retry": {"retry_on_result", "stop", "budget", "on_retry"},
        "circuit_breaker": set(),
        "degradation": set(),
        "timeout": set(),
        "bulkhead": {"circuit_breaker"},
    }


def test_fallbacks_are_copies(file):
    """What callers do with an answer changes neither the strategy nor what was written."""
    made = load(file("s.json", json.dumps({"x": {"degradation": {"fallback": []}, "retry": {"max_attempts": 1}}})))

    @made["x"]
    def failing():
        raise ConnectionError

    failing().append("mine")
    assert made["x"].degradation.fallback == []
    assert made.written["x"]["degradation"] == {"fallback": []}


def test_strategies_can_be_pickled_and_copied(file):
    """What a file says can be sent to another process, and copied."""
    made = load(file("s.toml", TOML))
    for one in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):  # noqa: S301 - our own
        assert (dict(one), one.written, one.path) == (EXPECTED, made.written, made.path)


def test_whole_numbers(file):
    """3.0 is a whole number to a JSON Schema, so it is one here."""
    (made,) = load(file("s.json", '{"x": {"retry": {"max_attempts": 3.0}, "timeout": {"total": 3.0}}}')).values()
    assert type(made.retry.max_attempts) is int


def test_an_import_that_exits(file, tmp_path, monkeypatch):
    """A module that ends the interpreter when it is imported is a problem like others."""
    (tmp_path / "exiting_module.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "importing 'exiting_module.Error' ends with SystemExit" in refused(
        file("s.toml", "x.retry.on = 'exiting_module.Error'")
    )


@pytest.mark.parametrize("option", ["on", "max_attempts", "backoff"])
def test_a_bomb(file, option):
    """Aliases of aliases, which stand for millions of values, are told of in few words, and soon."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in itertools.pairwise("abcdefghi")]
    message = refused(file("s.yaml", "\n".join([*lines, f"p: {{retry: {{{option}: *i}}}}"])))
    assert len(message) < 4000


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            "retry.max_delay = 0.05",
            "retry.max_delay=0.05: does not fit base_delay=0.1 (default), which must not exceed",
        ),
        ("retry.base_delay = 20", "retry.base_delay=20.0: must not exceed max_delay=10.0 (default)"),
        ("degradation.window_size = 5", "degradation.window_size=5: must be at least minimum_calls=10 (default)"),
        ("timeout.connect = 70", "timeout.connect=70.0: must not exceed total=60.0 (default)"),
        ("preset = 'database'\nretry.max_delay = 0.01", "retry.max_delay=0.01: does not fit base_delay=0.05 (default)"),
        ("retry.max_delay = 1\nretry.base_delay = 2", "retry.base_delay=2.0: must not exceed max_delay=1.0\n"),
    ],
)
def test_problems_between_options(file, written, problem):
    """A problem between two options is one of what was written, and says what is a default."""
    assert f"\n  x.{problem}" in refused(file("s.toml", f"[x]\n{written}")) + "\n"


def test_a_deep_fallback(file):
    """One that is too deep to be copied is refused, and one that contains itself is none of our business."""
    deep = "[" * 900 + "]" * 900
    assert "nested too deeply" in refused(file("s.json", '{"x": {"degradation": {"fallback": ' + deep + "}}}"))
    made = load(file("s.yaml", "x: {degradation: {fallback: &r [*r]}}"))["x"]
    assert made(lambda: 1)() == 1
