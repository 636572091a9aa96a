"""Scenarios as tables of a file."""

from resilient.testing.files.loading import load_scenarios, scenario_from, scenario_schema

__all__ = ["load_scenarios", "scenario_from", "scenario_schema"]
