"""Traces."""

from st2client.models import Trace
from st2client.models.core import Resource

__all__ = ["Resource", "Trace"]
