"""A network that fails: a TCP proxy on this machine, and what it does to the bytes that go through it."""
