"""Executions by an alias."""

from st2client.models import ActionAliasExecution
from st2client.models.core import Resource

__all__ = ["Resource", "ActionAliasExecution"]
