"""Kinds of resources; each is also in the module of its name."""

from typing import Any, Dict, Optional

from st2client.models.core import Resource, ResourceManager

__all__ = [
    "Resource", "ResourceManager", "Action", "ActionAlias", "ActionAliasExecution", "ActionAliasMatch", "ApiKey", "Config",
    "ConfigSchema", "Execution", "Inquiry", "KeyValuePair", "LiveAction", "Pack", "Policy", "PolicyType", "Role", "Rule",
    "RuleEnforcement", "RunnerType", "Sensor", "ServiceRegistryGroup", "ServiceRegistryMember", "Timer", "Token",
    "Trace", "Trigger", "TriggerInstance", "TriggerType", "UserRoleAssignment", "Webhook", "Workflow",
]


class Action(Resource):
    pass


class Execution(Resource):
    pass


class LiveAction(Execution):
    """The name that older packs use for an execution."""

    _url_path = "executions"


class ActionAlias(Resource):
    _plural = "ActionAliases"
    _url_path = "actionalias"


class ActionAliasMatch(Resource):
    _url_path = "actionalias"


class ActionAliasExecution(Resource):
    _url_path = "aliasexecution"


class ApiKey(Resource):
    pass


class Config(Resource):
    pass


class ConfigSchema(Resource):
    _url_path = "config_schemas"


class Inquiry(Resource):
    _plural = "Inquiries"


class KeyValuePair(Resource):
    _url_path = "keys"
    name: str
    value: Any
    scope: str

    @property
    def id(self) -> str:
        return self.name

    @id.setter
    def id(self, value: str) -> None:
        """The name is the id."""

    def serialize(self) -> Dict[str, Any]:
        return dict(super().serialize(), id=self.name)


class Pack(Resource):
    pass


class Policy(Resource):
    _plural = "Policies"


class PolicyType(Resource):
    pass


class Role(Resource):
    _url_path = "rbac/roles"


class UserRoleAssignment(Resource):
    _url_path = "rbac/role_assignments"


class Rule(Resource):
    pass


class RuleEnforcement(Resource):
    pass


class RunnerType(Resource):
    pass


class Sensor(Resource):
    _url_path = "sensortypes"


class ServiceRegistryGroup(Resource):
    _url_path = "service_registry/groups"


class ServiceRegistryMember(Resource):
    _url_path = "service_registry/members"
    group_id: Optional[str] = None


class Timer(Resource):
    pass


class Token(Resource):
    pass


class Trace(Resource):
    pass


class Trigger(Resource):
    pass


class TriggerInstance(Resource):
    pass


class TriggerType(Resource):
    pass


class Webhook(Resource):
    pass


class Workflow(Resource):
    pass
