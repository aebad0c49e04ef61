"""Configurations of packs."""

from st2client.models import Config, ConfigSchema
from st2client.models.core import Resource

__all__ = ["Resource", "Config", "ConfigSchema"]
