"""ArviZ does not need a home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
