"""The ArviZ container of a run and what is read from it: summary, checks, verdict."""
