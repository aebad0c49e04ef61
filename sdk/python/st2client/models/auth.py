"""Tokens and keys."""

from st2client.models import ApiKey, Token
from st2client.models.core import Resource

__all__ = ["Resource", "ApiKey", "Token"]
