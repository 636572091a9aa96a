"""References in parameters: found wherever they are, and replaced by what they stand for."""

import types
from collections import UserDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.orchestrator.errors import RecoveryError
from resilient.orchestrator.model import ExecutionStatus, RecoveryPlan, RecoveryStep, StepResult
from resilient.orchestrator.references import DEEPEST, Fault, Reference, found, missing, place, resolved, scan

GIVEN = {"host": "db1", "port": 5432, "db": {"users": ["ann", "bob"], "none": None}, "on": True}
RESULTS = {
    "backup": StepResult("backup", ExecutionStatus.COMPLETED, attempts=2, output={"path": "/b", "sizes": [1, 2]})
}


def filled(value):
    return resolved({"x": value}, GIVEN, RESULTS)["x"]


def test_references_are_found_in_all_depths():
    """Each reference is told with the way to it, in the order in which they are written."""
    parameters = {"a": "${parameters.host}:${parameters.port}", "b": [{"c": ("no", "${steps.backup.output.path}")}]}
    assert found(parameters) == [
        Reference(("a",), "parameters", ("host",), "${parameters.host}"),
        Reference(("a",), "parameters", ("port",), "${parameters.port}"),
        Reference(("b", 0, "c", 1), "steps", ("backup", "output", "path"), "${steps.backup.output.path}"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${parameters.host}", "db1"),
        ("${parameters.port}", 5432),
        ("${parameters.db}", GIVEN["db"]),
        ("${parameters.db.users.1}", "bob"),
        ("${parameters.db.none}", None),
        ("${steps.backup.output}", RESULTS["backup"].output),
        ("${steps.backup.output.sizes.0}", 1),
        ("${steps.backup.status}", "completed"),
        ("${steps.backup.attempts}", 2),
    ],
)
def test_a_whole_reference_keeps_its_type(text, value):
    """A value that is one reference becomes the very thing that it refers to."""
    assert filled(text) == value
    assert type(filled(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${parameters.host}:${parameters.port}", "db1:5432"),
        (" ${parameters.on}", " true"),
        ("users=${parameters.db.users}", 'users=["ann", "bob"]'),
        ("$${parameters.host}", "${parameters.host}"),
        ("$${", "${"),
        ("cost: $5 {x} $${y} ${parameters.port}", "cost: $5 {x} ${y} 5432"),
        ("no reference", "no reference"),
    ],
)
def test_within_a_text_references_become_text(text, value):
    """Inside a longer text values are written as in JSON, texts as they are, and `$${` is `${`."""
    assert filled(text) == value


def test_lists_and_tables_are_filled():
    """References within lists, tuples and tables are replaced, and the plan's own parameters stay as they were."""
    parameters = {
        "a": [{"b": "${parameters.host}"}, ("${parameters.port}", 1)],
        "c": types.MappingProxyType({"d": "${parameters.on}"}),
    }
    done = resolved(parameters, GIVEN, RESULTS)
    assert done == {"a": [{"b": "db1"}, (5432, 1)], "c": {"d": True}}
    assert parameters["a"] == [{"b": "${parameters.host}"}, ("${parameters.port}", 1)]


def test_other_values_stay_the_objects_they_are():
    """Functions, objects, other mappings and tables without references are passed on, not copied."""
    cache, store, items = {"k": [1]}, UserDict({"k": "${parameters.host}"}), [print, object()]
    done = resolved({"a": cache, "b": store, "c": items, "d": [cache, "${parameters.host}"]}, GIVEN, RESULTS)
    assert done["a"] is cache
    assert done["b"] is store
    assert done["c"] is items
    assert done["d"][0] is cache
    assert store == {"k": "${parameters.host}"}


def test_what_a_reference_brings_in_is_not_looked_through():
    """A parameter given from outside cannot smuggle in references of its own."""
    done = resolved({"a": "${parameters.x}", "b": "-${parameters.x}"}, {"x": "${steps.secret.output}"}, RESULTS)
    assert done == {"a": "${steps.secret.output}", "b": "-${steps.secret.output}"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${steps.backup.output.size}", "step 'backup' has no output.size"),
        ("${steps.backup.output.sizes.2}", "step 'backup' has no output.sizes.2"),
        ("${steps.backup.output.sizes.-1}", "step 'backup' has no output.sizes.-1"),
        ("${steps.backup.error_message}", "step 'backup' has no error_message"),
        ("${steps.copy.output}", "step 'copy' has no result"),
        ("${parameters.user}", "no parameter 'user' was given"),
        ("a ${parameters.host.name} b", "no parameter 'host.name' was given"),
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error(text, said):
    """The error says where the reference stands and what is not there."""
    with pytest.raises(RecoveryError) as caught:
        resolved({"to": {"path": [text]}}, GIVEN, RESULTS)
    assert str(caught.value) == f"parameters.to.path[0]: {text.strip(' ab')}: {said}"


def test_all_that_lead_nowhere_are_told_without_values():
    """One error names every reference that leads nowhere, and shows nothing of what was given."""
    secret = {"password": "hunter2"}
    with pytest.raises(RecoveryError) as caught:
        resolved({"a": "${parameters.password.x}", "b": "${parameters.b} ${parameters.password}"}, secret, {})
    assert "password.x" in str(caught.value)
    assert "'b' was not" not in str(caught.value)
    assert "no parameter 'b' was given" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["${", "a ${parameters.host", "${}", "${parameters}", "${parameters.}", "${.x}", "${env.HOME}", "${steps}",
     "${ parameters.host }", "${parameters.a b}", "${parameters.${x}}", "${parameters..x}"],
)  # fmt: skip
def test_a_malformed_reference_is_a_fault(text):
    """What begins like a reference and is none is told, and resolving it is an error too."""
    assert {one.where for one in scan({"x": [text]}) if isinstance(one, Fault)} == {("x", 0)}
    with pytest.raises(RecoveryError, match=r"parameters\.x"):
        filled(text)


def test_parameters_without_end_are_a_fault():
    """A list that contains itself, and one nested beyond measure, are told instead of followed."""
    ring, deep = [], []
    ring.append(ring)
    for _ in range(DEEPEST):
        deep = [deep]
    assert [one.where for one in scan({"ring": ring})] == [("ring", 0)]
    assert scan({"deep": deep}) == [
        (("deep", *[0] * (DEEPEST - 1)), f"expected at most {DEEPEST} lists and tables within each other")
    ]


def test_shared_lists_are_looked_through_once():
    """A list that holds itself a billion times over by sharing is looked through in no time, and filled as well."""
    laugh = ["${parameters.host}"]
    for _ in range(40):
        laugh = [laugh, laugh]
    assert len(found({"x": laugh})) == 1
    done = filled(laugh)
    for _ in range(40):
        done = done[1]
    assert done == ["db1"]


def test_missing_names_parameters_that_are_not_given():
    """Every reference of a plan to a parameter that is not given is told with its place, nested keys as well."""
    steps = [
        RecoveryStep(
            "a", "A", "custom", {"x": "${parameters.host} ${parameters.db.users}", "y": ["${parameters.zone}"]}
        )
    ]
    undo = [RecoveryStep("u", "U", "custom", {"z": "${parameters.db.name}"})]
    assert missing(RecoveryPlan("p", "P", steps, rollback_steps=undo), GIVEN) == [
        "steps[0].parameters.y[0]: ${parameters.zone}: no parameter 'zone' was given",
        "rollback_steps[0].parameters.z: ${parameters.db.name}: no parameter 'db.name' was given",
    ]


def test_places_read_as_people_write_them():
    """Numbers stand in brackets, names behind dots, and names with blanks in quotes."""
    assert place(("steps", 1, "parameters", "my key", 0)) == 'steps[1].parameters."my key"[0]'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("${}.apst", max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.", max_size=3) | st.integers(), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.text("abc.", max_size=3), VALUES, max_size=3))
def test_any_parameters_can_be_scanned(parameters):
    """Where nothing is found and nothing at fault only escapes are resolved; otherwise resolving says what is wrong."""
    if scan(parameters):
        with pytest.raises(RecoveryError):
            resolved(parameters, {}, {})
    else:
        assert str(resolved(parameters, {}, {})) == str(parameters).replace("$${", "${")
