"""The examples in docstrings run and show what they say."""

from __future__ import annotations

import doctest

import pytest

import halo_mdn as hm

NAMES = (
    "Grid",
    "HaloCatalogue",
    "MassObservation",
    "NeuralBias",
    "TruncatedPowerLaw",
    "OverdispersedBias",
    "fixed_field_likelihood",
    "adjoint",
    "log_intensity",
    "log_expected",
    "simulate",
    "identified_functions",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_name_runs(name: str, capsys) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(hm, name), name, globs={})
    assert example.examples, "the docstring has no example"
    failed, _ = doctest.DocTestRunner().run(example)
    assert not failed, capsys.readouterr().out
