"""The JSON Schema of plan files says what `load` says, as far as one place of a file decides it."""

import copy
import json
from dataclasses import fields

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.orchestrator.errors import PlanInvalidError
from resilient.orchestrator.files import from_dict
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, RetryPolicy
from resilient.orchestrator.schema import schema

SCHEMA = schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)
STEP = SCHEMA["$defs"]["step"]

#: A file with everything in it; the cases below change one place of it.
FULL = {
    "$schema": "plan.schema.json",
    "id": "p.1",
    "name": "P",
    "description": "All there is",
    "timeout": 60,
    "max_parallel": 2,
    "dependencies": {"b": ["a"]},
    "steps": [
        {
            "id": "a",
            "name": "A",
            "step_type": "custom",
            "timeout": 1.5,
            "rollback_step_id": "u",
            "on_failure": "stop",
            "critical": False,
            "in_doubt": "ask",
            "parameters": {"any": ["thing", {"x": None}]},
            "retry_policy": {
                "max_attempts": 3,
                "base_delay": 0,
                "backoff_multiplier": 1,
                "max_delay": 5,
                "jitter": "full",
            },
        },
        {"id": "b", "name": "", "step_type": "own type"},
    ],
    "rollback_steps": [{"id": "u", "name": "U", "step_type": "approve-not"}],
}
NOTHING = object()
FIRST = ("steps", 0)
RETRY = (*FIRST, "retry_policy")

GOOD = [
    ((), FULL),
    (("$schema",), NOTHING),
    (("description",), NOTHING),
    (("timeout",), False),
    (("timeout",), None),
    (("max_parallel",), 3.0),
    (("dependencies",), {}),
    (("dependencies",), {"b": []}),
    ((*FIRST, "timeout"), False),
    ((*FIRST, "timeout"), 1e-9),
    ((*FIRST, "step_type"), "health_check"),
    ((*FIRST, "parameters"), {}),
    (RETRY, {}),
    ((*RETRY, "max_attempts"), 2.0),
    ((*RETRY, "max_delay"), None),
    ((*RETRY, "jitter"), True),
    ((*RETRY, "jitter"), 0.5),
    ((*RETRY, "jitter"), 1),
]
BAD = [
    ((), []),
    ((), {}),
    (("$schema",), 3),
    (("id",), NOTHING),
    (("id",), ""),
    (("id",), ".p"),
    (("id",), "a b"),
    (("name",), None),
    (("description",), 3),
    (("timeout",), 0),
    (("timeout",), True),
    (("timeout",), "60"),
    (("timeout",), 1e300),
    (("max_parallel",), 0),
    (("max_parallel",), 1.5),
    (("max_parallel",), True),
    (("dependencies",), None),
    (("dependencies",), ["a"]),
    (("dependencies",), {"b": "a"}),
    (("dependencies",), {"b": ["a", "a"]}),
    (("dependencies",), {"b": [1]}),
    (("steps",), NOTHING),
    (("steps",), []),
    (("steps",), {}),
    (("steps", 1), "b"),
    (("rollback_steps",), None),
    (("plan_timeout",), 3),
    ((*FIRST, "id"), NOTHING),
    ((*FIRST, "id"), "a.b"),
    ((*FIRST, "id"), 1),
    ((*FIRST, "name"), NOTHING),
    ((*FIRST, "step_type"), NOTHING),
    ((*FIRST, "step_type"), " "),
    ((*FIRST, "timeout"), -1),
    ((*FIRST, "timeout"), "soon"),
    ((*FIRST, "rollback_step_id"), 1),
    ((*FIRST, "on_failure"), "retry"),
    ((*FIRST, "critical"), "no"),
    ((*FIRST, "critical"), 1),
    ((*FIRST, "in_doubt"), None),
    ((*FIRST, "parameters"), []),
    ((*FIRST, "parameters"), None),
    ((*FIRST, "depends_on"), ["b"]),
    (RETRY, 3),
    ((*RETRY, "max_attempts"), 0),
    ((*RETRY, "max_attempts"), 1.5),
    ((*RETRY, "base_delay"), -1),
    ((*RETRY, "base_delay"), None),
    ((*RETRY, "backoff_multiplier"), 0.5),
    ((*RETRY, "max_delay"), "1"),
    ((*RETRY, "jitter"), "some"),
    ((*RETRY, "jitter"), 2),
    ((*RETRY, "jitter"), None),
    ((*RETRY, "attempts"), 3),
]


def changed(path, value):
    """FULL with another value, or nothing, in one place."""
    if not path:
        return value
    data = copy.deepcopy(FULL)
    table = data
    for key in path[:-1]:
        table = table[key]
    if value is NOTHING:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    return data


def loads(data):
    try:
        from_dict(data)
    except PlanInvalidError:
        return False
    return True


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_is_loaded_is_accepted(path, value):
    """What `load` takes the schema accepts."""
    data = changed(path, value)
    assert (loads(data), list(CHECK.iter_errors(data))) == (True, [])


@pytest.mark.parametrize(("path", "value"), BAD)
def test_what_is_refused_is_not_accepted(path, value):
    """What `load` refuses, the schema does not accept."""
    data = changed(path, value)
    assert (loads(data), CHECK.is_valid(data)) == (False, False)


PLACES = [path for path, _ in GOOD + BAD if path and path != ("plan_timeout",) and "attempts" not in path]
VALUES = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["", "a", "rollback", "full", " "])
)


@given(st.sampled_from(PLACES), VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.just("a"), VALUES))
def test_whatever_loads_is_accepted(path, value):
    """No value that `load` takes in any place is objected to by the schema."""
    data = changed(path, value)
    assert CHECK.is_valid(data) or not loads(data)


def test_the_schema_is_one():
    """It is a valid schema of the draft it names, and JSON all through."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


@pytest.mark.parametrize(
    ("table", "model"),
    [(SCHEMA, RecoveryPlan), (STEP, RecoveryStep), (STEP["properties"]["retry_policy"], RetryPolicy)],
)
def test_its_keys_are_the_fields(table, model):
    """The schema has a described key for each field of the model, no other, and its default."""
    properties = {key: one for key, one in table["properties"].items() if key != "$schema"}
    known = {one.name: one for one in fields(model)}
    assert properties.keys() == known.keys()
    assert all(one["description"] for one in properties.values())
    assert table["additionalProperties"] is False
    assert table.get("required", []) == [
        name for name in known if "default" not in properties[name] and name != "retry_policy"
    ]
    for name, one in properties.items():
        default = one.get("default")
        if default and name != "retry_policy":
            assert default == known[name].default


def test_each_schema_is_a_new_one():
    """What a caller does with a schema does not change the next."""
    schema()["properties"].clear()
    assert schema() == SCHEMA
