"""Strategies: ready compositions of policies."""
