"""ArviZ does not need a home."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from halo_mdn.quiet_arviz import arviz_module, quiet
from halo_mdn.sampling.nuts.convergence import mixing

PROGRAM = """
import os
from halo_mdn.quiet_arviz import arviz_module
print(arviz_module().__name__, os.environ["XDG_CACHE_HOME"])
"""


def test_it_is_imported_where_no_cache_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": str(tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**os.environ, **home}
    )
    assert done.stdout.split() == ["arviz", home["XDG_CACHE_HOME"]], done.stderr


def test_one_chain_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """R-hat of one chain is NaN; ArviZ logs why, to standard error where nobody asked for it."""
    arviz, draws = arviz_module(), np.random.default_rng(1).normal(size=(1, 20))
    found = mixing(xr.Dataset({"x": (("chain", "draw"), draws)}))
    with quiet():
        arviz.bfmi(draws)
        arviz.rhat(np.full((1, 3), np.nan))
    assert np.isnan(found["rhat"]["x"]) and capfd.readouterr() == ("", "")


def test_what_others_log_is_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        logging.getLogger("halo_mdn").warning("of this package")
        logging.getLogger("arviz").warning("of ArviZ")
    logging.getLogger("arviz").warning("afterwards")
    assert [record.message for record in caplog.records] == ["of this package", "afterwards"]
