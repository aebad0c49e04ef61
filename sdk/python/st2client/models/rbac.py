"""Roles."""

from st2client.models import Role, UserRoleAssignment
from st2client.models.core import Resource

__all__ = ["Resource", "Role", "UserRoleAssignment"]
