"""Rules, triggers, sensors."""

from st2client.models import Rule, RuleEnforcement, Sensor, Trigger, TriggerInstance, TriggerType
from st2client.models.core import Resource

__all__ = ["Resource", "Rule", "RuleEnforcement", "Sensor", "Trigger", "TriggerInstance", "TriggerType"]
