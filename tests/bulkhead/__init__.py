"""White-box tests of the bulkhead: its places and its line, its options, its policy."""
