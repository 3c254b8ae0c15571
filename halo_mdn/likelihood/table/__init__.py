"""The fast path: the mass function of one activation from a table, with a measured error."""
