"""Readers of density fields and halo catalogues."""

from halo_mdn.io.example import example_path as example_path
from halo_mdn.io.example import example_provenance as example_provenance
from halo_mdn.io.field_file import read_field as read_field
from halo_mdn.io.formats.arrays import file_hash as file_hash
from halo_mdn.io.halo_file import read_halos as read_halos
from halo_mdn.io.load import RunData as RunData
from halo_mdn.io.load import load_data as load_data
