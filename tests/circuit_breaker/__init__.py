"""White-box tests of the circuit breaker: its pure machine, its windows, its options, its layers."""
