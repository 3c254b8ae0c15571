"""FITS and Parquet catalogues, and what people write as units."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from halo_mdn import InputError
from halo_mdn.config import DataConfig
from halo_mdn.io import read_halos
from halo_mdn.io.formats.units import canonical

RNG = np.random.default_rng(7)
POSITION = RNG.uniform(0, 40, (30, 3))
MASS = 2e12 * (1 + RNG.exponential(5, 30))
USED = np.arange(30) % 3 > 0
UNITS = {"x": "Mpc/h", "y": "Mpc/h", "z": "Mpc/h", "mass": "Msun/h"}
COLUMNS = {**dict(zip("xyz", POSITION.T, strict=True)), "mass": MASS, "used": USED}


def write_fits(path: Path, columns: dict[str, np.ndarray], units: dict[str, str]) -> Path:
    formats = {"f": "D", "i": "K", "b": "L"}
    parts = [
        fits.Column(
            name,
            "3D" if values.ndim == 2 else formats[values.dtype.kind],
            array=values,
            unit=units.get(name),
        )
        for name, values in columns.items()
    ]
    image = fits.ImageHDU(np.zeros((2, 2)))
    table = fits.BinTableHDU.from_columns(parts)
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(path, overwrite=True)
    return path


def write_parquet(path: Path, columns: dict[str, np.ndarray], units: dict[str, str]) -> Path:
    parts = {n: list(v) if v.ndim == 2 else v for n, v in columns.items()}
    table = pa.table(parts)
    described = "datatype:\n" + "\n".join(
        f"- {{name: {n}, unit: {units[n]}, datatype: float64}}" for n in parts if n in units
    )
    pq.write_table(table.replace_schema_metadata({"table_meta_yaml": described}), path)
    return path


@pytest.fixture(params=["fits", "parquet"])
def write(request: pytest.FixtureRequest, tmp_path: Path):
    writer = {"fits": write_fits, "parquet": write_parquet}[request.param]
    return lambda columns, units: writer(tmp_path / f"halos.{request.param}", columns, units)


def test_columns_and_selection(write) -> None:
    path = write(COLUMNS, UNITS)
    halos = read_halos(path, DataConfig(selected="used"))
    np.testing.assert_array_equal(halos.position, POSITION)
    np.testing.assert_array_equal(halos.mass, MASS)
    np.testing.assert_array_equal(halos.selected, USED)
    assert halos.mass.dtype == np.dtype("=f8") and halos.notes == ()
    named = {"M200b" if n == "mass" else n.upper(): v for n, v in COLUMNS.items()}
    path = write(named, {})
    halos = read_halos(path, DataConfig(mass_key="m200b"))
    np.testing.assert_array_equal(halos.position, POSITION)
    assert "states no units: positions taken as Mpc/h, masses taken as Msun/h" in halos.notes[0]


def test_positions_in_one_column(write) -> None:
    path = write({"position": POSITION, "mass": MASS}, {"position": "kpc/h", "mass": "Msun/h"})
    halos = read_halos(path, DataConfig())
    np.testing.assert_allclose(halos.position, POSITION * 1e-3, rtol=1e-15)


@pytest.mark.parametrize(
    ("units", "settings", "complaint"),
    [
        ({"x": "Mpc", "y": "Mpc", "z": "Mpc"}, {}, "lengths in Mpc, expected Mpc/h or kpc/h"),
        ({"x": "kpc/h"}, {}, "different units for the axes"),
        ({}, {"length_unit": 0.001}, "not data.length_unit = 0.001"),
        ({"mass": "Msun"}, {}, "masses in Msun, expected Msun/h: set data.mass_unit"),
        ({"mass": "1e10 Msun/h"}, {}, "data.mass_unit is 1 Msun/h: set it to 1e\\+10"),
        ({"mass": "log10(Msun/h)"}, {}, "set data.mass_is_log10"),
        ({}, {"mass_unit": 1e10}, "set it to 1$"),
        ({}, {"mass_key": "M"}, "no column 'M'; it has: x, y, z, mass, used"),
    ],
)
def test_contradictions_are_refused(write, units, settings, complaint: str) -> None:
    path = write(COLUMNS, {**UNITS, **units})
    with pytest.raises(InputError, match=complaint) as caught:
        read_halos(path, DataConfig(**settings))
    assert "\n" not in str(caught.value)


def test_other_units_when_the_settings_say_so(write) -> None:
    columns = {**COLUMNS, **{axis: COLUMNS[axis] / 0.7 for axis in "xyz"}}
    units = {"x": "Mpc", "y": "Mpc", "z": "Mpc", "mass": "dex(1e10 Msun/h)"}
    path = write({**columns, "mass": np.log10(MASS / 1e10)}, units)
    data = DataConfig(length_unit=0.7, mass_unit=1e10, mass_is_log10=True)
    halos = read_halos(path, data)
    np.testing.assert_allclose(halos.position, POSITION, rtol=1e-15)
    np.testing.assert_allclose(halos.mass, MASS, rtol=1e-13)


@pytest.mark.parametrize(
    ("unit", "plain"),
    [
        *[(u, "mpc/h") for u in ("Mpc/h", "Mpc / h", "h^-1 Mpc", "Mpc h-1", "Mpc / littleh")],
        *[(u, "mpc/h") for u in ("cMpc/h", "Mpc/h comoving", "h^{-1} Mpc", "Mpc h**-1")],
        *[(u, "msun/h") for u in ("Msun/h", "solMass / littleh", "M_sun/h", "h^-1 Msun")],
        *[(u, "kpc/h") for u in ("kpc/h", "ckpc/h", "h-1 kpc")],
        ("Mpc", "mpc"),
        ("10^10 Msun/h", "1010msun/h"),
    ],
)
def test_spellings_of_units(unit: str, plain: str) -> None:
    assert canonical(unit) == plain


def test_damaged_and_unsuitable_files(write, tmp_path: Path) -> None:
    path = write(COLUMNS, UNITS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot read"):
        read_halos(path, DataConfig())
    path.unlink()
    with pytest.raises(InputError, match="there is no file"):
        read_halos(path, DataConfig())
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match="no table"):
        read_halos(tmp_path / "image.fits", DataConfig())
    broken = pa.table({**dict(zip("xyz", POSITION.T, strict=True)), "mass": [None, *MASS[1:]]})
    pq.write_table(broken, tmp_path / "missing.parquet")
    with pytest.raises(InputError, match="1 values of column 'mass' are missing"):
        read_halos(tmp_path / "missing.parquet", DataConfig())


def test_what_astropy_writes_is_understood(tmp_path: Path) -> None:
    table = Table(COLUMNS, units=dict.fromkeys("xyz", "kpc"))
    table.write(tmp_path / "halos.parquet", format="parquet")
    with pytest.raises(InputError, match="lengths in kpc, expected"):
        read_halos(tmp_path / "halos.parquet", DataConfig())


def test_a_missing_package_is_named(write, monkeypatch) -> None:
    path = write(COLUMNS, UNITS)
    for module in ("astropy.io.fits", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    package = {".fits": "astropy", ".parquet": "pyarrow"}[path.suffix]
    with pytest.raises(InputError, match=f"pip install {package}, or 'halo-mdn\\[tables\\]'"):
        read_halos(path, replace(DataConfig(), mass_key="mass"))
