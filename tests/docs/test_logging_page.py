"""The page of log records lists what the package writes: every name, with its logger, level, kind and fields."""

import ast
import logging
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import resilient
from resilient import degradation, events, orchestrator, strategies  # noqa: F401  (their import adds lines)
from resilient.degradation.events import QueuedCallEnded
from resilient.logs import LINES
from resilient.logs.limits import BURST, INTERVAL
from resilient.orchestrator.events import RecoveryEventType, RecoveryReported

from . import pages
from .test_reference import tables

PAGE = pages.DOCS / "reference" / "logging.md"
SOURCE = Path(resilient.__file__).parent

#: What every record has, and what the functions take for themselves.
COMMON = {"event", "policy", "kind", "suppressed"}
OWN_OPTIONS = {"kind", "policy", "limited"}


@dataclass
class Record:
    """What is known of one name; `levels`, `kinds` and `fields` from all places that write it."""

    logger: str
    levels: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    limited: bool = True
    #: Whether a function writes several names, so that only these and the logger can be read from the source.
    shared: bool = False


def of_events() -> dict[str, Record]:
    """The records of events."""
    found = {}
    for kind, line in LINES.items():
        if not kind.__module__.startswith("resilient."):
            continue
        fields = set(kind.__slots__) - COMMON
        names = [line.event] if isinstance(line.event, str) else []
        if kind is QueuedCallEnded:
            names = ["queue.call_succeeded"]
        if kind is RecoveryReported:
            names = [f"orchestrator.{one.value}" for one in RecoveryEventType]
            fields = {"event_type", "execution_id", "step_id", "elapsed"}
        assert names, f"{kind.__name__}: under which names is it written?"
        level = logging.getLevelName(line.level)
        for name in names:
            found[name] = Record(line.logger.name, {level}, {line.kind} - {""}, fields, line.limited)
    return found


def of_notes() -> dict[str, Record]:
    """The records of what is no event, read from the source."""
    found: dict[str, Record] = {}
    for file in sorted(set(SOURCE.rglob("*.py")) - set((SOURCE / "logs").glob("*.py"))):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        # A room may keep its logger in one of its modules.
        loggers = {name: logger for other in file.parent.glob("*.py") for name, logger in _loggers(other).items()}
        loggers |= _loggers(file)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                constants = _constants(function)
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and _is_handed_on(call, function):
                        names = _handed_to(function.name, tree)
                        found |= {name: Record(loggers[_root(call.args[0])], shared=True) for name in names}
                    elif isinstance(call, ast.Call):
                        _note(call, constants, loggers, found)
    return found


def _is_handed_on(call: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the name of the record is a parameter of the function around it."""
    places = {"log_failure": 1, "log_note": 2}
    for node in ast.walk(function):  # another name for one of them
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Name) and node.value.id in places:
            places[_root(node.target)] = places[node.value.id]
    place = places.get(getattr(call.func, "id", ""))
    return place is not None and getattr(call.args[place], "id", "") in {one.arg for one in function.args.args}


def _handed_to(function: str, tree: ast.AST) -> set[str]:
    """The names of records that are handed to a function of this module."""
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and _root(one.func) == function]
    texts = [part for call in calls for one in call.args for part in ast.walk(one) if isinstance(part, ast.Constant)]
    return {str(one.value) for one in texts if re.fullmatch(r"[a-z_]+\.[a-z_]+", str(one.value))}


def _note(
    call: ast.Call, constants: list[tuple[int, str, str]], loggers: dict[str, str], found: dict[str, Record]
) -> None:
    """Take up one call of `log_failure` or `log_note`, or one of a logger that says its `extra` itself."""
    name = getattr(call.func, "id", getattr(call.func, "attr", None))
    keywords: dict[str | None, Any] = {one.arg: one.value for one in call.keywords}
    if name == "log_failure":
        event, level, fields = _text(call.args[1], constants), "ERROR", {"error"}
    elif name == "log_note":
        event, level, fields = _text(call.args[2], constants), _level(call.args[1]), set()
    elif isinstance(keywords.get("extra"), ast.Dict) and "event" in (names := _keys(keywords["extra"])):
        event, level, fields = _text(names["event"], constants), str(name).upper(), set(names)
        keywords = {"kind": names["kind"], "limited": ast.Constant(False)}
        loggers = {"": loggers[_root(call.func)]}
    else:
        return
    logger = loggers[""] if "" in loggers else loggers[_root(call.args[0])]
    record = found.setdefault(event, Record(logger, limited=_is_limited(keywords)))
    assert record.limited == _is_limited(keywords), event
    record.levels.add(level)
    record.kinds |= {keywords["kind"].value} if isinstance(keywords["kind"], ast.Constant) else set()
    assert None not in keywords, f"{event}: name its fields"
    record.fields |= (fields | {str(one) for one in keywords}) - OWN_OPTIONS - COMMON


@cache
def _loggers(file: Path) -> dict[str, str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.targets[0].id: node.value.args[0].value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "attr", "") == "getLogger"
        and node.value.args
        and isinstance(node.value.args[0], ast.Constant)
    }


def _constants(function: ast.AST) -> list[tuple[int, str, str]]:
    """The texts that local names stand for: the line from which on they do, the name, and the text."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=True) if both else [(target, value)]  # type: ignore[attr-defined]
            for one, other in pairs:
                if isinstance(one, ast.Name) and isinstance(other, ast.Constant) and isinstance(other.value, str):
                    found.append((node.lineno, one.id, other.value))
    return sorted(found)


def _text(node: ast.expr, constants: list[tuple[int, str, str]]) -> str:
    known = [text for line, name, text in constants if line <= node.lineno and name == getattr(node, "id", "")]
    text = node.value if isinstance(node, ast.Constant) else known[-1] if known else None
    assert isinstance(text, str), f"line {node.lineno}: the name of a record is a text, or a local name of one"
    return text


def _level(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)


def _keys(node: ast.Dict) -> dict[str, ast.expr]:
    return {
        key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
    }


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def _is_limited(keywords: dict[str | None, Any]) -> bool:
    return not (isinstance(keywords.get("limited"), ast.Constant) and keywords["limited"].value is False)


def documented() -> dict[str, list[str]]:
    """Name -> row, of all tables of the page."""
    rows = [row for table in tables(PAGE) if table[0][0] == "`record.event`" for row in table[2:]]
    assert len({row[0] for row in rows}) == len(rows), "a record is documented twice"
    return {row[0].strip("`"): row for row in rows}


def test_every_record_has_its_row() -> None:
    """Each name that the package writes has its row, and no row is left over."""
    assert set(documented()) == set(of_events()) | set(of_notes())


def test_rows() -> None:
    """Logger, level, kind, fields and whether floods are only counted are what the row says."""
    for name, record in {**of_events(), **of_notes()}.items():
        _, logger, level, kind, fields, limited, meaning = documented()[name]
        assert logger == f"`{record.logger}`", name
        assert meaning, name
        if record.shared:
            continue
        assert all(one in level for one in record.levels), name
        assert {one for one in record.kinds if f"`{one}`" not in kind} == set(), name
        assert {one.strip(" `") for one in fields.split(",") if one.strip()} == record.fields, name
        assert limited == ("yes" if record.limited else "no"), name


def test_names_stay_apart() -> None:
    """No event and no other record share a name, and all names are dotted."""
    assert set(of_events()) & set(of_notes()) == set()
    assert {name for name in documented() if name.count(".") != 1} == set()


def test_limits() -> None:
    """The page tells the limits that are in force unless the application sets others."""
    text = pages.read(PAGE)[1]
    assert f"`interval` | `{INTERVAL}`" in text
    assert f"`burst` | `{BURST}`" in text


def test_silent_events() -> None:
    """The events that are not logged are named."""
    text = pages.read(PAGE)[1]
    silent = {kind for kind in events.Event.kinds if kind.__module__.startswith("resilient.")} - set(LINES)
    assert silent == {events.RetrySucceeded}
    assert "`RetrySucceeded` is not logged" in text
