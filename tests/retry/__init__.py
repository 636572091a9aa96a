"""White-box tests of retry: backoff, budget, the decision after a failure, the loop form, its options."""
