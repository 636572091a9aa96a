"""Time that passes when it is told to."""
