"""White-box tests of what all policies stand on: registry, events, logs, clock, pipelines, wrapping, imports."""
