"""The JSON Schema of files, and the command that prints it."""

import json
import pathlib
import subprocess
import sys

import jsonschema
import pytest

from resilient import ConfigurationError
from resilient.cli import main
from resilient.strategies import load, schema
from resilient.strategies.models import file_options
from resilient.strategies.options import about
from resilient.strategies.validation import JUDGES, SECTIONS

SCHEMA = schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)
OPTIONS = [(section, option) for section in SECTIONS for option in file_options(section)]

GOOD = [
    {},
    {"x": {}},
    {"$schema": "./strategies.schema.json", "x": {"preset": "cache"}},
    {"x": {"retry": {"max_attempts": None, "jitter": "full", "on": ["OSError"]}, "bulkhead": False}},
    {"x": {"degradation": {"fallback": {"any": ["thing", None]}, "cache_ttl": 3, "fallback_ttl": 60, "cache_size": 9}}},
    {"x": {"timeout": {"connect": None, "total": 3, "method": "signal", "max_abandoned": 0}}},
    {"x": {"circuit_breaker": {"window_size": 10, "failure_rate_threshold": 0.5, "ignore": []}}},
]
BAD = [
    [],
    {"x": 3},
    {"x": {"retries": {}}},
    {"x": {"preset": "databse"}},
    {"x": {"retry": {"max_attempt": 3}}},
    {"x": {"retry": {"max_attempts": "3"}}},
    {"x": {"retry": {"max_attempts": 0}}},
    {"x": {"retry": {"jitter": 1.5}}},
    {"x": {"retry": {"on": 3}}},
    {"x": {"retry": {"stop": "x"}}},
    {"x": {"bulkhead": True}},
    {"x": {"bulkhead": None}},
    {"x": {"timeout": {"total": "5s"}}},
    {"x": {"timeout": {"total": 0}}},
    {"x": {"degradation": {"degradation_threshold": 2}}},
]


def written(tmp_path, data):
    path = tmp_path / "strategies.json"
    path.write_text(json.dumps(data))
    return path


def test_the_schema_is_one():
    """The schema is valid itself, and survives JSON."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("data", GOOD, ids=str)
def test_good_files(data, tmp_path):
    """The schema accepts what load() accepts."""
    assert list(CHECK.iter_errors(data)) == []
    load(written(tmp_path, data))


@pytest.mark.parametrize("data", BAD, ids=str)
def test_bad_files(data, tmp_path):
    """The schema rejects what load() rejects."""
    assert not CHECK.is_valid(data)
    with pytest.raises(ConfigurationError):
        load(written(tmp_path, data))


@pytest.mark.parametrize(("section", "option"), OPTIONS)
def test_every_option_is_described(section, option):
    """Each option has a description and the default that a strategy has; no table takes other keys."""
    kind = SECTIONS[section]
    table = SCHEMA["$defs"][kind.__name__]
    assert table["additionalProperties"] is False
    assert table["description"]
    assert set(table["properties"]) == set(file_options(section))
    shown = table["properties"][option]
    assert len(shown["description"]) > 5
    default = getattr(kind(), option)
    if default is ...:
        assert "default" not in shown
    else:
        named = default.__name__ if isinstance(default, type) else list(default) if default == () else default
        assert shown["default"] == named
        assert CHECK.is_valid({"x": {section: {option: shown["default"]}}})


@pytest.mark.parametrize(
    ("section", "option"),
    [(section, option) for section, option in OPTIONS if about(SECTIONS[section].__dataclass_fields__[option]).limits],
)
def test_limits_are_those_of_the_rooms(section, option):
    """At each limit, and just beyond it, the schema and the rooms are of one mind about the single option."""
    shown = SCHEMA["$defs"][SECTIONS[section].__name__]["properties"][option]
    whole = "integer" in json.dumps(shown)
    step = 1 if whole else 0.001
    for limit in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        if limit not in shown:
            continue
        for value in (shown[limit] - step, shown[limit], shown[limit] + step):
            accepted = CHECK.is_valid({"x": {section: {option: value}}})
            assert accepted == (not any(judge.alone({option: value}) for judge in JUDGES[section])), value


@pytest.mark.parametrize("output", [False, True])
def test_the_command(output, tmp_path, capsys):
    """`resilient schema` prints the schema, or writes it to a file."""
    target = tmp_path / "schema.json"
    assert main(["schema", "--output", str(target)] if output else ["schema"]) == 0
    text = target.read_text("utf-8") if output else capsys.readouterr().out
    assert json.loads(text) == SCHEMA
    assert text.endswith("}\n")


def test_the_command_fails_with_a_sentence(tmp_path, capsys, monkeypatch):
    """A file that cannot be written, or a missing library, ends with 1 and a sentence."""
    assert main(["schema", "--output", str(tmp_path / "missing" / "schema.json")]) == 1
    assert "cannot be written: No such file" in capsys.readouterr().err
    from resilient.strategies import models

    models._strategies.cache_clear()
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert main(["schema"]) == 1
    assert "pip install resilient-toolkit[config]" in capsys.readouterr().err


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs a full disk")
@pytest.mark.parametrize(
    ("redirection", "why"), [(">/dev/full", "No space left on device"), (">&-", "standard output is closed")]
)
def test_output_that_cannot_be_written(redirection, why):
    """A full disk, or no output at all, is told of in one sentence."""
    command = f"{sys.executable} -m resilient schema {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)  # noqa: S602 - our own
    assert done.returncode == 1
    assert done.stderr == f"resilient schema: the output cannot be written: {why}\n"


def test_an_empty_name_for_the_output(capsys):
    """`--output=` says what is missing."""
    assert main(["schema", "--output="]) == 1
    assert capsys.readouterr().err == "resilient schema: --output needs the name of a file\n"
