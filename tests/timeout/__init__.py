"""White-box tests of timeout: timers, alarms, workers, its options."""
