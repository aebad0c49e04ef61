"""Aliases."""

from st2client.models import ActionAlias, ActionAliasMatch
from st2client.models.core import Resource

__all__ = ["Resource", "ActionAlias", "ActionAliasMatch"]
