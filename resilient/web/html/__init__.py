"""The page: one document that needs nothing else, and works without its script."""
