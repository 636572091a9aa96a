"""Tests of degradation: tiers, queues, managers, caches."""
