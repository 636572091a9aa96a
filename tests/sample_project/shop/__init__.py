"""A bookshop that depends on a service it does not own."""
