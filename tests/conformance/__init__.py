"""Black-box conformance: every promise of the public contract, tried from outside."""
