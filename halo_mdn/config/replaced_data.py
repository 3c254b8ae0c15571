"""What a run file says of its data does not hold for data that flags put in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from halo_mdn.config.schema import EXAMPLE
from halo_mdn.errors import InputError

THRESHOLD = "data.mass_threshold"
# redshift and cosmology are of both; the field decides, and a catalogue is compared with it.
_OF_FIELD = (
    "field_key", "field_points", "field_is", "box_size", "box_corner", "boundary", "density_floor",
    "completeness", "completeness_key", "redshift", "cosmology",
)  # fmt: skip
_OF_CATALOGUE = (
    "table", "position_key", "mass_key", "selected", "box_corner", "length_unit", "mass_unit",
    "mass_is_log10", "mass_threshold", "below_threshold", "completeness", "completeness_key",
    "mass_scatter", "threshold_completeness", "completeness_slope", "mass_definition",
    "realisations",
)  # fmt: skip
_OF_FILE = ("mass_threshold", "density_floor")  # of joint inference
_FACTS = {"data.field": _OF_FIELD, "data.catalogue": _OF_CATALOGUE, "data.file": _OF_FILE}


def superseded(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Settings of a run file that speak of a field or a catalogue which flags replace.

    Parameters
    ----------
    stored, given : mapping
        Settings of the run file and of the flags, by full name.
    """
    names = [f"data.{name}" for which in replaced(stored, given) for name in _FACTS[which]]
    return [name for name in dict.fromkeys(names) if name in stored and name not in given]


def replaced(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Which of field, catalogue and file (of a joint run) flags replace."""
    defaults = {"data.field": EXAMPLE, "data.catalogue": (EXAMPLE,), "data.file": ""}
    before = {name: stored.get(name, usual) for name, usual in defaults.items()}
    return [
        name
        for name, old in before.items()
        if old and name in given and given[name] not in ("", (), old)
    ]


def check_threshold_given(stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to fit a catalogue of one's own above the threshold of another one.

    Raises
    ------
    InputError
        If a flag replaces the catalogue and none gives the threshold.
    """
    which = [name for name in replaced(stored, given) if name != "data.field"]
    if which and given[which[0]] != (EXAMPLE,) and THRESHOLD not in given:
        left = superseded(stored, given)
        more = f" (nor do {', '.join(left)})" if left else ""
        raise InputError(
            f"--{which[0]} replaces the halos of the run file, whose mass threshold does not "
            f"hold for it{more}: give --{THRESHOLD}, the mass in Msun/h above which yours is "
            "complete"
        )


def in_words(left_out: list[str]) -> str:
    """One sentence about settings that were left out; empty if there are none."""
    if not left_out:
        return ""
    return f"flags replace data of the run file, so its {', '.join(left_out)} are not used"
