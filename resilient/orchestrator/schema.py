"""The JSON Schema of a plan file, for editors that complete and check as one types.

What needs more than one place of a file, such as ids that are there twice, is left to `load`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from resilient._checks import LONGEST
from resilient.orchestrator.files import SCHEMA_KEY
from resilient.orchestrator.model import RecoveryStepType
from resilient.orchestrator.rules import IN_DOUBT, ON_FAILURE, PLAN_ID, STEP_ID
from resilient.retry.backoff import JITTERS

_SECONDS = {"minimum": 0, "maximum": LONGEST}
_STEPS = {"type": "array", "items": {"$ref": "#/$defs/step"}}


def _limit(description: str, default: float | bool) -> dict[str, Any]:
    return {
        "description": f"{description} In seconds; false for no limit.",
        "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST}, {"enum": [False, None]}],
        "default": default,
    }


def _id(pattern: str, description: str) -> dict[str, Any]:
    return {"description": description, "type": "string", "pattern": f"^{pattern}$"}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "type": "string", **more}


def _closed(description: str, required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        **({"required": required} if required else {}),
        "additionalProperties": False,
        "properties": properties,
    }


_RETRY = _closed(
    "How often the step is tried, and how long to wait in between. Left out: it is tried once.",
    [],
    {
        "max_attempts": {
            "description": "How often it is tried in all, the first attempt included.",
            "type": "integer",
            "minimum": 1,
            "default": 1,
        },
        "base_delay": {
            "description": "Seconds to wait after the first failed attempt.",
            "type": "number",
            **_SECONDS,
            "default": 0.1,
        },
        "backoff_multiplier": {
            "description": "What each wait is multiplied by for the next.",
            "type": "number",
            "minimum": 1,
            "default": 2.0,
        },
        "max_delay": {
            "description": "The longest wait in seconds. Left out: no limit.",
            "type": ["number", "null"],
            **_SECONDS,
            "default": None,
        },
        "jitter": {
            "description": "How waits are spread: true is 10 % up and down, a number another share.",
            "anyOf": [{"type": "boolean"}, {"type": "number", "minimum": 0, "maximum": 1}, {"enum": list(JITTERS)}],
            "default": False,
        },
    },
)

_STEP = _closed(
    "One step.",
    ["id", "name", "step_type"],
    {
        "id": _id(STEP_ID, "The step's own id within the plan, rollback steps included."),
        "name": _text("What the step is called where people read of it."),
        "step_type": _text(
            "What the step does: a type that comes with the package, or one for which an executor is registered.",
            pattern=r"\S",
            examples=[one.value for one in RecoveryStepType],
        ),
        "timeout": _limit("The longest the step may take, its retries included; of an approval its deadline.", 300.0),
        "rollback_step_id": {
            "description": "The rollback step that undoes this one. Left out: its executor's own rollback does.",
            "type": ["string", "null"],
            "default": None,
        },
        "on_failure": {
            "description": "rollback undoes everything done so far, stop leaves it as it is, continue goes on with the "
            "other steps.",
            "enum": list(ON_FAILURE),
            "default": "rollback",
        },
        "critical": {
            "description": "false: the step may fail, and everything goes on as if it had not.",
            "type": "boolean",
            "default": True,
        },
        "in_doubt": {
            "description": "What to do where nobody knows whether the step happened: rerun it, rollback everything, or "
            "ask a person.",
            "enum": list(IN_DOUBT),
            "default": "rerun",
        },
        "parameters": {
            "description": "What the executor is told. Values may hold ${parameters.name} and ${steps.id.output.key}.",
            "type": "object",
            "default": {},
        },
        "retry_policy": _RETRY,
    },
)

_PLAN = _closed(
    "A recovery plan: steps towards a working system again, and the way back.",
    ["id", "name", "steps"],
    {
        SCHEMA_KEY: _text("Where this schema is, for editors."),
        "id": _id(PLAN_ID, "What the plan is asked for by."),
        "name": _text("What the plan is called where people read of it."),
        "description": _text("What the plan is for.", default=""),
        "timeout": _limit("The longest that everything may take, the rollback not counted.", False),
        "max_parallel": {
            "description": "How many steps may run side by side.",
            "type": "integer",
            "minimum": 1,
            "default": 4,
        },
        "dependencies": {
            "description": "For the id of a step, the ids of those that must be done before it.",
            "type": "object",
            "propertyNames": {"pattern": f"^{STEP_ID}$"},
            "additionalProperties": {
                "type": "array",
                "items": {"type": "string", "pattern": f"^{STEP_ID}$"},
                "uniqueItems": True,
            },
            "default": {},
        },
        "steps": {"description": "What is done.", **_STEPS, "minItems": 1},
        "rollback_steps": {
            "description": "Steps that run only to undo those that name them.",
            **_STEPS,
            "default": [],
        },
    },
)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a plan file in any format, ready for `json.dumps`."""
    return deepcopy(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Recovery plan",
            **_PLAN,
            "$defs": {"step": _STEP},
        }
    )
