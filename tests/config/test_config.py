"""Settings: types, limits, unknown keys, paths, and the way back to a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from halo_mdn.config import (
    ModelConfig,
    RunConfig,
    config_hash,
    load_config,
    nearest,
    settings_of,
    to_toml,
)
from halo_mdn.config.shipped import shipped_folder
from halo_mdn.errors import InputError

SHIPPED = [shipped_folder("runs") / f"{name}.toml" for name in ("quickstart", "paper")]


THRESHOLD = {"data.mass_threshold": "2e12"}


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_and_no_flags_give_the_defaults() -> None:
    assert load_config() == RunConfig()


def test_every_setting_has_a_help_text() -> None:
    assert all(spec.metadata["help"] for _, _, spec in settings_of())


def test_defaults_pass_their_own_checks(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, to_toml(RunConfig()))) == RunConfig()


def test_a_sampler_that_refuses_its_settings_is_heard() -> None:
    with pytest.raises(InputError, match=r"\[sampler\]: target_accept must lie between 0 and 1"):
        load_config(None, {"sampler.target_accept": "1.5"})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_run_files_are_valid(path: Path) -> None:
    config = load_config(path)
    assert config.data.field == "example"
    assert config.model == ModelConfig()


def test_flags_replace_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 3\n[sampler]\nnum_samples = 20\nnum_chains = 2\n")
    config = load_config(path, {"sampler.num_samples": "500", "model.hidden_layers": "4,8"})
    assert (config.seed, config.sampler.num_chains) == (3, 2)
    assert config.sampler.num_samples == 500
    assert config.model.hidden_layers == (4, 8)


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("data.position_key", "x,y,z", ("x", "y", "z")),
        ("data.position_key", '["x", "y", "z"]', ("x", "y", "z")),
        ("data.box_size", "250", (250.0,)),
        ("data.redshift", "none", None),
        ("data.redshift", "0.5", 0.5),
        ("data.mass_is_log10", "true", True),
        ("data.mass_threshold", "1e13", 1e13),
        ("model.hidden_layers", "", ()),
        ("model.hidden_layers", "[]", ()),
    ],
)
def test_flag_text_becomes_a_typed_value(flag: str, text: str, expected: object) -> None:
    table, name = flag.split(".")
    assert getattr(getattr(load_config(flags={flag: text}), table), name) == expected


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"sampler.num_samples": "many"}, "expected a whole number"),
        ({"sampler.num_samples": "1.5"}, "expected a whole number"),
        ({"sampler.num_samples": "true"}, "expected a whole number"),
        ({"sampler.num_samples": "0"}, "expected at least 4"),
        ({"sampler.dense_mass": "1"}, "expected true or false"),
        ({"data.mass_threshold": "-2e12"}, "expected more than 0"),
        ({"data.mass_threshold": "nan"}, "expected a finite number"),
        ({"data.boundary": "open"}, "expected one of: auto, periodic, interior"),
        ({"model.multipoles": "0,one"}, "expected a whole number"),
        ({"data.redshift": "high"}, "expected a number or none"),
    ],
)
def test_wrong_values_are_refused(flags: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_config(flags=flags)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[sampler]\nnum_sample = 3\n", "unknown setting sampler.num_sample .*sampler.num_samples"),
        ("[smapler]\nnum_samples = 3\n", "did you mean sampler.num_samples"),
        ("mass_treshold = 1e12\n", "did you mean data.mass_threshold"),
        ("sampler = 3\n", "is a table of settings"),
        ("[sampler]\nnum_samples = '3'\n", "expected a whole number"),
        ("[sampler\n", "not valid TOML"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_config(write(tmp_path, text))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_config(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(binary)


@pytest.mark.parametrize("name", [name for name, _, _ in settings_of()])
def test_one_letter_missing_still_finds_the_setting(name: str) -> None:
    known = [name for name, _, _ in settings_of()]
    assert nearest(name[:-1], known) == name


def test_paths_in_a_file_start_at_the_file(tmp_path: Path, monkeypatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write(tmp_path, "[data]\nfield = 'delta.npy'\n[model]\nname = 'mine.py'\n")
    config = load_config(path, {"data.catalogue": "halos.npz,example", **THRESHOLD})
    assert config.data.field == str(tmp_path / "delta.npy")
    assert config.data.catalogue == (str(elsewhere / "halos.npz"), "example")
    assert config.model.name == str(tmp_path / "mine.py")


def test_a_resolved_configuration_reads_back_the_same(tmp_path: Path) -> None:
    flags = {"data.cosmology": 'flat "LCDM"\n\\ Ωm = 0.3', "data.redshift": "0.5"}
    config = load_config(flags={**flags, "sampler.target_ess": "400"})
    assert load_config(write(tmp_path, to_toml(config))) == config


def test_the_hash_follows_what_decides_the_draws() -> None:
    config = RunConfig()
    assert config_hash(config) == config_hash(RunConfig())
    assert config_hash(replace(config, seed=1)) != config_hash(config)
    elsewhere = replace(config, output=replace(config.output, folder="elsewhere"))
    assert config_hash(elsewhere) == config_hash(config)
