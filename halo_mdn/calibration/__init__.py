"""Simulation-based calibration of the whole fitting machine (Talts et al. 2018)."""

from halo_mdn.calibration.fits import Fit as Fit
from halo_mdn.calibration.mock_problem import Problem as Problem
from halo_mdn.calibration.mock_problem import make_problem as make_problem
from halo_mdn.calibration.outputs import write_results as write_results
from halo_mdn.calibration.rank_results import Results as Results
from halo_mdn.calibration.rank_results import results_of as results_of
from halo_mdn.calibration.ranks import band as band
from halo_mdn.calibration.ranks import p_value as p_value
from halo_mdn.calibration.series import Series as Series
from halo_mdn.calibration.series import run_series as run_series
