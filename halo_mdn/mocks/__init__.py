"""Halos drawn from a model: one catalogue, a mock universe, many from a posterior."""
