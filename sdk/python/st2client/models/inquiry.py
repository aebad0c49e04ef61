"""Questions of workflows."""

from st2client.models import Inquiry
from st2client.models.core import Resource

__all__ = ["Resource", "Inquiry"]
