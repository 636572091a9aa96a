"""White-box tests of degrade: keys, caches, fallbacks, its options."""
