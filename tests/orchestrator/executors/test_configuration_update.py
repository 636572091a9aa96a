"""Steps of `configuration_update`: files change as a whole, keep their looks, and come back byte for byte."""

import os
import stat
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.errors import ConfigurationError
from resilient.orchestrator.executors import (
    ActionFailedError,
    ActionStoppedError,
    ConfigurationUpdateExecutor,
    env_files,
)

from .helpers import context, names, step

update = ConfigurationUpdateExecutor()

TOML = """\
# The service.
name = "shop"   # shown to people

[server]
port = 80       # the usual one
hosts = [
    "a",  # first
    "b",
]

[server.tls]
on = false
"""


def change(file, values, told=None, **parameters):
    return update.execute(step("configuration_update", path=str(file), set=values, **parameters), told or context())


def undo(file, values, run="run-1"):
    return update.rollback(step("configuration_update", path=str(file), set=values), context(run, undoing=True))


def test_toml(tmp_path):
    """In TOML, values change in their places; comments, layout and order stay."""
    file = tmp_path / "app.toml"
    file.write_text(TOML)
    found = change(file, {"server.port": 8080, "server": {"tls": {"on": True}}, "debug": True, "new.deep.key": "x"})
    text = file.read_text()
    assert tomllib.loads(text) == {
        "name": "shop",
        "debug": True,
        "server": {"port": 8080, "hosts": ["a", "b"], "tls": {"on": True}},
        "new": {"deep": {"key": "x"}},
    }
    for line in ("# The service.", "port = 8080       # the usual one", '    "a",  # first', "on = true"):
        assert line in text.splitlines()
    assert found["changed"] == ["server.port", "server.tls.on", "debug", "new.deep.key"]
    assert not found["created"]


def test_json(tmp_path):
    """In JSON, the order of keys and the indentation stay."""
    file = tmp_path / "app.json"
    file.write_text('{\n    "b": {"x": 1},\n    "a": "é"\n}\n')
    change(file, {"b.x": [1, None], '"a.b"': 2})
    assert file.read_text() == '{\n    "b": {"x": [1, null]},\n    "a": "é",\n    "a.b": 2\n}\n'
    file.write_text('{"a": 1}')
    change(file, {"a": 2}, context("run-2"))
    assert file.read_text() == '{"a": 2}'


@pytest.mark.parametrize(
    ("text", "values", "changed"),
    [
        (
            '{"e": 1e400, "n": 12345678901234567890.123456789}',
            {"x": 1},
            '{"e": 1e400, "n": 12345678901234567890.123456789, "x": 1}',
        ),
        ('{"rate":0.10,"v":1.0E5}', {"x.y": [1, 2]}, '{"rate":0.10,"v":1.0E5,"x":{"y":[1,2]}}'),
        ('{"rate": 0.10}', {"rate": 0.1}, '{"rate": 0.10}'),
        ('{\n  "a": [1, 2, 3],\n  "b": {}\n}\n', {"b.c": 1}, '{\n  "a": [1, 2, 3],\n  "b": {\n    "c": 1\n  }\n}\n'),
        ('{\r\n\t"a": 1\r\n}', {"b": [1]}, '{\r\n\t"a": 1,\r\n\t"b": [\r\n\t\t1\r\n\t]\r\n}'),
        ('{"a" : {"k": "x"} , "b":2}', {"a.k": "}", "b": None}, '{"a" : {"k": "}"} , "b":null}'),
        ("", {"a": 1}, '{\n  "a": 1\n}\n'),
        ('{"s": "\\ud800"}', {"a": "é"}, '{"s": "\\ud800", "a": "\\u00e9"}'),
    ],
)
def test_json_stays_as_it_was_written(tmp_path, text, values, changed):
    """Numbers, spacing and lists that are not named stay character by character."""
    file = tmp_path / "a.json"
    file.write_bytes(text.encode())
    change(file, values)
    assert file.read_bytes().decode() == changed


def test_env(tmp_path):
    """In .env files, values change in their places; comments, `export` and values over several lines stay."""
    file = tmp_path / ".env"
    file.write_text("# top\nexport PORT=80 # web\nKEY='a\nPORT=1\n'\nNAME=\"x\" # who\n\nLAST=1")
    change(file, {"PORT": 8080, "NAME": "it's $me", "DEBUG": True, "LAST": "a b"})
    assert file.read_text() == (
        "# top\nexport PORT=8080 # web\nKEY='a\nPORT=1\n'\nNAME=\"it's \\$me\" # who\n\nLAST='a b'\nDEBUG=true\n"
    )


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20))
def test_env_quoting(value):
    """Whatever is written as a value, a shell reads the same, and it can be replaced again."""
    text = env_files.changed("A=1\nB=2\n", {"A": value})
    script = f'{text}printf %s "$A$B"'
    read = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)  # noqa: S603
    assert read.stdout.decode() == value + "2"
    assert env_files.changed(text, {"A": 1}) == "A=1\nB=2\n"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("A=\"a\"'b' # c\n", "A=5 # c\n"),
        ("A='1'#x\n", "A=5\n"),
        ("A=x'a # b'y # c\n", "A=5 # c\n"),
        ("A=a\\ b\n", "A=5\n"),
        ("A=don't # c\nB='1'\n", "A=5 # c\nB='1'\n"),
        ("A='a\nb'\"c\" \n", "A=5 \n"),
        ("A='a\n", "A=5\n"),
        ("A=a b # c\r\n", "A=5 # c\r\n"),
        ("A=\nB=1\n", "A=5\nB=1\n"),
    ],
)
def test_env_value_in_parts(text, changed):
    """A value is everything up to a comment or the end of the line, whatever of it is in quotes."""
    assert env_files.changed(text, {"A": 5}) == changed


@pytest.mark.parametrize(
    ("name", "text", "values", "said"),
    [
        ("a.toml", "a = ", {"a": 1}, "is not valid TOML"),
        ("a.json", "{", {"a": 1}, "is not valid JSON"),
        ("a.json", "[]", {"a": 1}, "no table of keys"),
        ("a.json", '{"a": 1, "a": 2}', {"a": 1}, "the same key twice"),
        ("a.json", '{"a": 1}', {"a.b": 1}, "a is no table in the file"),
        ("a.toml", "[a]\nb = 1\n", {"a": 1}, "a is a table in the file"),
        ("a.toml", "a = [1]\n", {"a.b": 1}, "a is no table in the file"),
    ],
)
def test_files_that_do_not_fit(tmp_path, name, text, values, said):
    """A file that is broken, or has something else in the place, is left as it is, with nothing beside it."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ActionFailedError, match=f"{name}: .*{said}"):
        change(file, values)
    assert file.read_text() == text
    assert names(tmp_path) == [name]


def test_pipe(tmp_path):
    """A pipe is refused, and nobody waits for what comes out of it."""
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ActionFailedError, match="is no plain file"):
        change(tmp_path / "a.json", {"a": 1})
    assert names(tmp_path) == ["a.json"]


def test_not_utf8(tmp_path):
    """A file that is not UTF-8 is left alone."""
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ActionFailedError, match="is not UTF-8"):
        change(tmp_path / "a.json", {"a": 1})


def test_missing_directory(tmp_path):
    """No directories are made."""
    with pytest.raises(ActionFailedError, match="there is no directory"):
        change(tmp_path / "gone" / "a.json", {"a": 1})
    with pytest.raises(ActionFailedError, match="cannot be changed: Is a directory"):
        change(tmp_path, {"a": 1}, format="json")


def test_without_tomlkit(tmp_path, monkeypatch):
    """Where tomlkit is missing, validation says so, and how to install it."""
    monkeypatch.setattr("resilient.orchestrator.executors.formats.find_spec", lambda name: None)
    [(path, said)] = update.problems(step("configuration_update", path="a.toml", set={"a": 1}))
    assert path == "path"
    assert "pip install resilient-toolkit[orchestrator]" in said
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    (tmp_path / "a.toml").write_text("a = 1")
    with pytest.raises(ConfigurationError, match="expected tomlkit to be installed"):
        change(tmp_path / "a.toml", {"a": 2})


def test_rollback(tmp_path):
    """Rollback brings back bytes, mode and owner, and does no more the second time."""
    file = tmp_path / "app.toml"
    file.write_bytes(TOML.replace("\n", "\r\n").encode())
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12346)
    before = file.stat()
    found = change(file, {"server.port": 1})
    now = file.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert found["backup"] is not None
    assert stat.S_IMODE(os.stat(found["backup"]).st_mode) == 0o640
    assert undo(file, {"server.port": 1})["restored"]
    after = file.stat()
    assert file.read_bytes() == TOML.replace("\n", "\r\n").encode()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert names(tmp_path) == ["app.toml"]
    file.write_text("changed = 1")
    assert not undo(file, {"server.port": 1})["restored"]
    assert file.read_text() == "changed = 1"


def test_rollback_without_execute(tmp_path):
    """Rollback of a step that never ran does nothing."""
    file = tmp_path / "a.json"
    file.write_text("{}")
    assert not undo(file, {"a": 1})["restored"]
    assert file.read_text() == "{}"


def test_repetition(tmp_path):
    """A repetition with the same key changes nothing more, and what is brought back is from before the first."""
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    first = change(file, {"a": 2})
    second = change(file, {"a": 2})
    assert second == {**first, "changed": []}
    assert first["changed"] == ["a"]
    file.write_text('{"a": 9}')
    change(file, {"a": 2})
    undo(file, {"a": 2})
    assert file.read_text() == '{"a": 1}'


def test_two_steps(tmp_path):
    """Two executions that change one file keep a state each."""
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    change(file, {"a": 2}, context("run-1"))
    change(file, {"a": 3}, context("run-2"))
    undo(file, {"a": 3}, "run-2")
    assert file.read_text() == '{"a": 2}'
    undo(file, {"a": 2}, "run-1")
    assert file.read_text() == '{"a": 1}'


def test_new_file(tmp_path):
    """A file that was not there is made, and taken away again, also after a repetition."""
    file = tmp_path / ".env"
    assert change(file, {"A": 1}) == {"path": str(file), "changed": ["A"], "backup": None, "created": True}
    assert change(file, {"A": 1})["created"]
    assert file.read_text() == "A=1\n"
    assert undo(file, {"A": 1})["restored"]
    assert names(tmp_path) == []
    assert not undo(file, {"A": 1})["restored"]


def test_link(tmp_path):
    """Of a link, the file that it leads to is changed and brought back; the link stays."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.json").write_text('{"a": 1}')
    link = tmp_path / "link.json"
    link.symlink_to("real/a.json")
    change(link, {"a": 2})
    assert link.is_symlink()
    assert link.read_text() == '{"a": 2}'
    undo(link, {"a": 2})
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.json").read_text() == '{"a": 1}'


def test_nothing_to_change(tmp_path):
    """Where everything is as it should be, nothing is written."""
    file = tmp_path / "a.toml"
    file.write_text(TOML)
    inode = file.stat().st_ino
    assert change(file, {"server.port": 80}) == {"path": str(file), "changed": [], "backup": None, "created": False}
    assert (file.stat().st_ino, names(tmp_path)) == (inode, ["a.toml"])


def test_killed_amid_writing(tmp_path):
    """Killed before the new file is in its place, the old one is whole; a repetition clears up, and all comes back."""
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    code = (
        "import os\n"
        "from resilient.orchestrator.executors import ConfigurationUpdateExecutor\n"
        "from resilient.orchestrator.model import RecoveryContext, RecoveryStep\n"
        "real, count = os.replace, []\n"
        "def replace(source, target):\n"
        "    count.append(1)\n"
        "    os.kill(os.getpid(), 9) if len(count) == 2 else real(source, target)\n"
        "os.replace = replace\n"
        f"step = RecoveryStep('work', 'Work', 'configuration_update', {{'path': {str(file)!r}, 'set': {{'a': 2}}}})\n"
        "ConfigurationUpdateExecutor().execute(step, RecoveryContext('run-1', 'plan', step_id='work'))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603
    assert ended.returncode == -9
    assert file.read_text() == '{"a": 1}'
    assert len(names(tmp_path)) == 3
    change(file, {"a": 2})
    assert len(names(tmp_path)) == 2
    undo(file, {"a": 2})
    assert names(tmp_path) == ["a.json"]
    assert file.read_text() == '{"a": 1}'


def test_stopped(tmp_path):
    """A step that is stopped leaves the file as it was."""
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    with pytest.raises(ActionStoppedError):
        change(file, {"a": 2}, context(stopped=lambda: True))
    assert file.read_text() == '{"a": 1}'


def test_step_called_rollback(tmp_path):
    """A step may be called as the end of a rollback's key is."""
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    change(file, {"a": 2}, context_of("run:rollback"))
    told = step("configuration_update", path=str(file), set={"a": 2})
    assert update.rollback(told, context_of("run:rollback:rollback"))["restored"]
    assert file.read_text() == '{"a": 1}'


def context_of(key):
    told = context()
    told.idempotency_key = key
    return told
