"""The whole platform on one machine: the supervisor behind `geofix up` and `geofix demo`."""

from geofix.platform.directory import default_data_dir
from geofix.platform.errors import PlatformError
from geofix.platform.supervisor import Platform

__all__ = ["Platform", "PlatformError", "default_data_dir"]
