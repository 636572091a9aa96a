"""The JSON Schema of a scenario file, for editors that complete and check as one types.

What needs more than one place of a file, such as ids that are there twice, or an import, is left to `load_scenarios`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from resilient.testing.files.faults import FAULT
from resilient.testing.files.fields import closed
from resilient.testing.files.tables import EXPERIMENT_SCENARIO, READY_SCENARIO, SCENARIO

SCHEMA_KEY = "$schema"


def scenario_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a scenario file in any format, ready for `json.dumps`."""
    forms = {
        "scenario": closed("A workload, the faults it meets, and how it is to recover.", SCENARIO),
        "ready": closed("A ready scenario for a function.", READY_SCENARIO),
        "experiment": closed("An experiment of Chaos Toolkit as a scenario.", EXPERIMENT_SCENARIO),
    }
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recovery tests",
        "description": "Scenarios: workloads, the faults they meet, and how they are to recover.",
        "type": "object",
        "required": ["scenarios"],
        "additionalProperties": False,
        "properties": {
            SCHEMA_KEY: {"description": "Where this schema is, for editors.", "type": "string"},
            "scenarios": {
                "description": "The scenarios, in the order in which they run.",
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in forms]},
            },
        },
        "$defs": {**forms, "fault": closed("One fault.", FAULT)},
    }
    return deepcopy(whole)
