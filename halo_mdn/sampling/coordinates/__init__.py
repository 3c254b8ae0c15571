"""Coordinates in which a posterior is sampled."""
