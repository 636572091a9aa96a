"""Recovery tests: scenarios, their runs, and the verdicts on them."""
