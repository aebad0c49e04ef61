"""Timers."""

from st2client.models import Timer
from st2client.models.core import Resource

__all__ = ["Resource", "Timer"]
