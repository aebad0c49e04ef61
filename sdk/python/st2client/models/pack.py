"""Packs."""

from st2client.models import Pack
from st2client.models.core import Resource

__all__ = ["Resource", "Pack"]
