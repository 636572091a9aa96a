"""Imports run one way: the source is read, and every import must lead to the same floor of the house or a lower one."""

import ast
from pathlib import Path

import pytest

import resilient

ROOT = Path(resilient.__file__).parent

#: Floors from the ground up. A module belongs to the longest of these names that it has, or lies within.
FLOORS = [
    ["errors", "events", "clock", "_checks", "_files", "deadlines", "meters"],
    [
        "circuit_breaker.config",
        "circuit_breaker.windows",
        "circuit_breaker.state",
        "bulkhead.config",
        "bulkhead.state",
        "retry.backoff",
        "retry.config",
        "timeout.config",
        "degrade.config",
        "degrade.keys",
    ],
    ["_registry"],
    ["generators", "wrapping", "policy"],
    ["circuit_breaker", "bulkhead", "retry", "timeout", "degrade"],
    ["pipeline", "logs", "drawing"],
    ["degradation", "strategies", "telemetry", "metrics"],
    [""],  # the package itself, the public door
    ["orchestrator", "testing", "web"],
    ["demo"],
    ["cli", "__main__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
ROOMS = ["circuit_breaker", "bulkhead", "retry", "timeout", "degrade"]

#: Imports that lead upwards all the same, with the reason.
EXCEPTIONS = {
    ("bulkhead.config", "_registry"): "circuit_breaker= may be the name of a registered breaker",
    ("bulkhead.config", "circuit_breaker"): "circuit_breaker= must be a breaker policy",
    ("bulkhead.state", "policy"): "a ticket asks which event loop is running here, to wake its task directly",
    ("retry.config", "retry.budget"): "budget= must be a RetryBudget",
    ("degrade.config", "degrade.caches"): "cache= must be something an AnswerCache can talk to",
}
#: Rooms that look into another room.
NEIGHBOURS = {("bulkhead", "circuit_breaker"): "a bulkhead may have a breaker built in"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(tree):
    """Walk through all nodes but those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            for other in node.orelse:
                yield from walk(other)
            continue
        yield node
        yield from walk(node)


def imported(path):
    """Return the full names of the modules that a file imports."""
    names = set()
    for node in walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            whole = [name for name in inside if name.removeprefix("resilient.") in MODULES]
            names.update(whole)
            if len(whole) < len(inside):
                names.add(node.module)
    return names


def own(names):
    """Return the names within the package, without its own name."""
    return {
        name.removeprefix("resilient").removeprefix(".")
        for name in names
        if name == "resilient" or name.startswith("resilient.")
    }


def floor(name):
    place = name
    while place not in FLOOR:
        assert "." in place, f"resilient.{name} has no place in FLOORS: on which floor does it live?"
        place = place.rpartition(".")[0]
    return FLOOR[place]


@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "resilient")
def test_imports_lead_down(name):
    """No module imports from a floor above its own."""
    upwards = {other for other in own(imported(MODULES[name])) if floor(other) > floor(name)}
    assert upwards - {other for module, other in EXCEPTIONS if module == name} == set()


def test_exceptions_are_in_use():
    """Every exception in the list is still needed, so that the list only gets shorter."""
    used = {
        (name, other)
        for name in MODULES
        for other in own(imported(MODULES[name]))
        if floor(other) > floor(name) and (name, other) in EXCEPTIONS
    }
    assert used == set(EXCEPTIONS)


def test_rooms_do_not_look_into_each_other():
    """A policy's folder imports no other policy's, but for the listed ones."""
    seen = set()
    for name, path in MODULES.items():
        room = name.partition(".")[0]
        for other in own(imported(path)):
            neighbour = other.partition(".")[0]
            if room in ROOMS and neighbour in ROOMS and neighbour != room:
                seen.add((room, neighbour))
    assert seen == set(NEIGHBOURS)


def test_no_circles():
    """No modules import each other in a circle, whatever their floors."""
    graph = {name: own(imported(path)) & set(MODULES) - {name} for name, path in MODULES.items()}
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way, name])
        if name not in done:
            under_way.append(name)
            for other in sorted(graph[name]):
                visit(other)
            done.add(under_way.pop())

    for name in graph:
        visit(name)


IMPURE = {"threading", "logging", "asyncio", "time", "random", "resilient.clock", "resilient.events", "os"}
PURE = ["circuit_breaker.config", "circuit_breaker.state", "circuit_breaker.windows", "retry.backoff", "degrade.keys"]


@pytest.mark.parametrize("name", PURE)
def test_pure_modules(name):
    """Pure parts know no locks, logs, loops, clocks, events or chance."""
    assert imported(MODULES[name]) & IMPURE == set()


def test_pure_budget():
    """The budget's state uses nothing of its module but its own constants and plain containers."""
    tree = ast.parse(MODULES["retry.budget"].read_text("utf-8"))
    (state,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "BudgetState")
    names = {node.id for node in ast.walk(state) if isinstance(node, ast.Name)}
    assert names.isdisjoint({"threading", "CLOCK", "registry", "weakref", "time", "random", "_BUDGETS"})
