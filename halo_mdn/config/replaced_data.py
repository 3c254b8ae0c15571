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
_FACTS = {"data.field": _OF_FIELD, "data.catalogue": _OF_CATALOGUE}


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
    """Which of field and catalogue flags replace."""
    defaults = {"data.field": EXAMPLE, "data.catalogue": (EXAMPLE,)}
    return [
        name
        for name, usual in defaults.items()
        if name in given and given[name] not in ("", (), stored.get(name, usual))
    ]


def check_threshold_given(stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to fit a catalogue of one's own above the threshold of another one.

    Raises
    ------
    InputError
        If a flag replaces the catalogue and none gives the threshold.
    """
    own = "data.catalogue" in replaced(stored, given) and given["data.catalogue"] != (EXAMPLE,)
    if own and THRESHOLD not in given:
        left = superseded(stored, given)
        more = f" (nor do {', '.join(left)})" if left else ""
        raise InputError(
            "--data.catalogue replaces the catalogue of the run file, whose mass threshold does "
            f"not hold for it{more}: give --{THRESHOLD}, the mass in Msun/h above which yours is "
            "complete"
        )


def in_words(left_out: list[str]) -> str:
    """One sentence about settings that were left out; empty if there are none."""
    if not left_out:
        return ""
    return f"flags replace data of the run file, so its {', '.join(left_out)} are not used"
