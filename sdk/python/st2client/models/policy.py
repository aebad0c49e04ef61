"""Policies."""

from st2client.models import Policy, PolicyType
from st2client.models.core import Resource

__all__ = ["Resource", "Policy", "PolicyType"]
