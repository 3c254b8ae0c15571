"""Joint inference of the initial conditions and the bias."""

from __future__ import annotations
