"""Scripted outages against real pipelines, in virtual time."""

from resilient.testing.simulation.result import Interval, Simulation
from resilient.testing.simulation.run import simulate

__all__ = ["Interval", "Simulation", "simulate"]
