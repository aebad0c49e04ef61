"""Webhooks."""

from st2client.models import Webhook
from st2client.models.core import Resource

__all__ = ["Resource", "Webhook"]
