"""A fit from its run file to its results."""
