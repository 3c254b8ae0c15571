"""Settings of a run: schema, run files, flags."""

from halo_mdn.config.run_file import config_hash as config_hash
from halo_mdn.config.run_file import load_config as load_config
from halo_mdn.config.run_file import load_settings as load_settings
from halo_mdn.config.run_file import nearest as nearest
from halo_mdn.config.run_file import settings_of as settings_of
from halo_mdn.config.run_file import to_json as to_json
from halo_mdn.config.run_file import to_toml as to_toml
from halo_mdn.config.schema import DataConfig as DataConfig
from halo_mdn.config.schema import ModelConfig as ModelConfig
from halo_mdn.config.schema import OutputConfig as OutputConfig
from halo_mdn.config.schema import RunConfig as RunConfig
from halo_mdn.config.schema import RuntimeConfig as RuntimeConfig
from halo_mdn.config.schema import SamplerConfig as SamplerConfig
from halo_mdn.config.schema import StartConfig as StartConfig
from halo_mdn.config.schema import is_example as is_example
