"""Measurements of the likelihood's speed: ``python -m benchmarks``."""
