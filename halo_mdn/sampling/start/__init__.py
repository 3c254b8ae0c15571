"""Where chains start: the search for the modes."""
