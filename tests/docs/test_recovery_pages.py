"""The pages about recovery plans name what the package has: options, statuses, events, methods, keys of files."""

import dataclasses
import inspect
import re
from typing import Any

import pytest

from resilient import orchestrator
from resilient.orchestrator import errors, files, schema

from . import pages
from .test_reference import words

PAGE = "orchestrator.md"
FILES = "recovery-plan-files.md"

#: What has an option table, by the heading of that.
OPTIONS = (
    orchestrator.RecoveryOrchestrator,
    orchestrator.RecoveryPlan,
    orchestrator.RecoveryStep,
    orchestrator.RetryPolicy,
    orchestrator.SqliteJournal,
    orchestrator.MemoryJournal,
)
FIELDS = (
    orchestrator.RecoveryExecution,
    orchestrator.StepResult,
    orchestrator.JournalEntry,
    orchestrator.RecoveryEvent,
    orchestrator.Order,
    orchestrator.Answer,
)
MEMBERS: dict[str, Any] = {
    "step type": orchestrator.RecoveryStepType,
    "status": orchestrator.ExecutionStatus,
    "event type": orchestrator.RecoveryEventType,
}
KEYS = {"plan": files.PLAN_KEYS, "step": files.STEP_KEYS, "retry policy": files.RETRY_KEYS}


def parameters(function: Any) -> dict[str, str]:
    """The parameters of a function with their defaults as a page shows them."""
    return {one.name: shown(one) for one in inspect.signature(function).parameters.values() if one.name != "self"}


def shown(parameter: inspect.Parameter) -> str:
    """A default in the way of a table."""
    default = parameter.default
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, orchestrator.RetryPolicy):
        assert default == orchestrator.RetryPolicy()
        return "`RetryPolicy()`"
    if repr(default) == "<factory>":  # of a dataclass, which makes a new one each time
        return "`{}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_options(kind: Any) -> None:
    """Each option has its row, in order and with its default; no row is left over."""
    documented = words(PAGE, f"option of `{kind.__name__}`")

    assert {name: row[2] for name, row in documented.items()} == parameters(kind)
    assert list(documented) == list(parameters(kind))


def test_arguments_of_triggers() -> None:
    """Each argument of `on_open` has its row, with its default."""
    documented = {name: row[2] for name, row in words(PAGE, "argument of `on_open`").items()}

    assert documented == parameters(orchestrator.RecoveryOrchestrator.on_open)


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_fields(kind: Any) -> None:
    """Each field of a result has its row, in order; no row is left over."""
    names = [one.name for one in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else list(kind._fields)

    assert list(words(PAGE, f"field of `{kind.__name__}`")) == names


@pytest.mark.parametrize("heading", MEMBERS)
def test_members(heading: str) -> None:
    """Each member of an enumeration has its row, with its value."""
    documented = {name: row[1] for name, row in words(PAGE, heading).items()}

    assert documented == {one.name: f'`"{one.value}"`' for one in MEMBERS[heading]}


def test_methods() -> None:
    """Each method of the orchestrator is shown with its signature, and is awaited where it is async."""
    documented = {row[0].strip("`") for row in words(PAGE, "method").values()}
    public = {name: one for name, one in vars(orchestrator.RecoveryOrchestrator).items() if not name.startswith("_")}

    assert documented == {signature(name, one) for name, one in public.items()}


def signature(name: str, member: Any) -> str:
    """A method as the page shows it, without types."""
    if isinstance(member, property):
        return name
    given = list(inspect.signature(member).parameters.values())[1:]
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in given]
    text = str(inspect.Signature(plain)).replace("'", '"')
    return f"{'await ' if inspect.iscoroutinefunction(member) else ''}{name}{text}"


def test_methods_of_engines() -> None:
    """Each method of the engine's protocol has its row."""
    rows = " ".join(words(PAGE, "method of an engine"))
    public = {name for name in vars(orchestrator.Engine) if not name.startswith("_")}

    assert set(re.findall(r"(\w+)\(", rows)) == public


def test_what_the_context_knows() -> None:
    """Each attribute of a context has its row, in the reference and in the guide."""
    slots = {name for name in orchestrator.RecoveryContext.__slots__ if not name.startswith("_")}
    guide = (pages.DOCS / "how-to" / "write-executors.md").read_text(encoding="utf-8")
    in_guide = re.search(r"\| attribute of the context \|.*?\n\n", guide, re.DOTALL)

    attributes = re.findall(r"\w+", " ".join(words(PAGE, "attribute of the context")))

    assert set(attributes) == slots | {"cancelled"}
    assert in_guide is not None
    assert {name for name in slots | {"cancelled"} if f"`{name}`" not in in_guide[0]} == set()


@pytest.mark.parametrize("what", KEYS)
def test_keys_of_files(what: str) -> None:
    """Each key of a plan file has its row, with the default that the JSON Schema has."""
    whole = schema.schema()
    step = whole["$defs"]["step"]
    table = {"plan": whole, "step": step, "retry policy": step["properties"]["retry_policy"]}[what]
    documented = words(FILES, f"key of a {what}")

    assert set(documented) == set(KEYS[what])
    for key, row in documented.items():
        assert row[2] == in_file(key, table), key


def in_file(key: str, table: dict[str, Any]) -> str:
    """The default of a key as the page shows it: in the words of a file."""
    if key in table.get("required", ()):
        return "required"
    if "default" not in table["properties"][key]:
        return ""
    default = table["properties"][key]["default"]
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


def test_the_plan_on_the_page_is_one(tmp_path: Any) -> None:
    """The file that the reference shows can be registered as it is."""
    (block,) = [one for one in pages.read(pages.DOCS / "reference" / FILES)[0] if one.language == "toml"]
    file = tmp_path / "plan.toml"
    file.write_text(block.text, encoding="utf-8")

    with orchestrator.RecoveryOrchestrator() as shop:
        shop.register_plan(orchestrator.RecoveryPlan.load(file))
        assert list(shop.plans) == ["restore-orders"]


def test_errors() -> None:
    """Each error has its row, with its bases, its data and whether it is retryable."""
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.RecoveryError)
    }
    documented = words("errors.md", "error of `resilient.orchestrator`")

    assert set(documented) == set(kinds)
    for name, kind in kinds.items():
        _, bases, _, data, retryable = documented[name]
        known = {*inspect.signature(kind.__init__).parameters, *inspect.get_annotations(errors.RecoveryError)}
        assert re.findall(r"`(\w+)`", bases) == [base.__name__ for base in kind.__bases__], name
        assert retryable == ("yes" if kind.retryable else "no"), name
        assert set(re.findall(r"`(\w+)`", data)) <= known, name
