"""Items of the datastore."""

from st2client.models import KeyValuePair
from st2client.models.core import Resource

__all__ = ["Resource", "KeyValuePair"]
