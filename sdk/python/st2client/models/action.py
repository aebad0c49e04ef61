"""Actions and executions."""

from st2client.models import Action, Execution, LiveAction, RunnerType
from st2client.models.core import Resource

__all__ = ["Resource", "Action", "Execution", "LiveAction", "RunnerType"]
