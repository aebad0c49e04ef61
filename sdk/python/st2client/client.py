"""`Client`: the services of a node, and a manager for each kind of resource."""

import os
from typing import Any, Dict, Optional, Union

from st2client import managers, models
from st2client.models.core import ResourceManager
from st2client.utils.httpclient import HTTPClient

__all__ = ["Client"]

DEFAULT_BASE_URL = "http://127.0.0.1"
DEFAULT_API_VERSION = "v1"

# Attribute, name in `managers`, resource, manager.
_MANAGERS = (
    ("actions", "Action", models.Action, ResourceManager),
    ("apikeys", "ApiKey", models.ApiKey, ResourceManager),
    ("keys", "KeyValuePair", models.KeyValuePair, managers.Keys),
    ("executions", "Execution", models.Execution, managers.Executions),
    ("liveactions", "LiveAction", models.LiveAction, managers.Executions),
    ("inquiries", "Inquiry", models.Inquiry, managers.Inquiries),
    ("packs", "Pack", models.Pack, managers.Packs),
    ("policies", "Policy", models.Policy, ResourceManager),
    ("policytypes", "PolicyType", models.PolicyType, ResourceManager),
    ("rules", "Rule", models.Rule, ResourceManager),
    ("runners", "RunnerType", models.RunnerType, ResourceManager),
    ("sensors", "Sensor", models.Sensor, ResourceManager),
    ("triggertypes", "TriggerType", models.TriggerType, ResourceManager),
    ("triggerinstances", "TriggerInstance", models.TriggerInstance, managers.TriggerInstances),
    ("trace", "Trace", models.Trace, ResourceManager),
    ("ruleenforcements", "RuleEnforcement", models.RuleEnforcement, ResourceManager),
    ("webhooks", "Webhook", models.Webhook, managers.Webhooks),
    ("workflows", "Workflow", models.Workflow, ResourceManager),
    (None, "ActionAlias", models.ActionAlias, managers.ActionAliases),
    (None, "ActionAliasExecution", models.ActionAliasExecution, managers.AliasExecutions),
    (None, "Config", models.Config, ResourceManager),
    (None, "ConfigSchema", models.ConfigSchema, ResourceManager),
    (None, "Trigger", models.Trigger, ResourceManager),
    (None, "Timer", models.Timer, ResourceManager),
    (None, "ServiceRegistryGroups", models.ServiceRegistryGroup, ResourceManager),
    (None, "ServiceRegistryMembers", models.ServiceRegistryMember, managers.ServiceMembers),
    (None, "Role", models.Role, ResourceManager),
    (None, "UserRoleAssignment", models.UserRoleAssignment, ResourceManager),
)


class Client:
    """Each address is the argument's, else the environment's, else made from the base address."""

    actions: ResourceManager
    apikeys: ResourceManager
    keys: managers.Keys
    executions: managers.Executions
    liveactions: managers.Executions
    inquiries: managers.Inquiries
    packs: managers.Packs
    policies: ResourceManager
    policytypes: ResourceManager
    rules: ResourceManager
    runners: ResourceManager
    sensors: ResourceManager
    tokens: ResourceManager
    triggertypes: ResourceManager
    triggerinstances: managers.TriggerInstances
    trace: ResourceManager
    ruleenforcements: ResourceManager
    webhooks: managers.Webhooks
    workflows: ResourceManager

    def __init__(
        self,
        base_url: Optional[str] = None,
        auth_url: Optional[str] = None,
        api_url: Optional[str] = None,
        stream_url: Optional[str] = None,
        api_version: Optional[str] = None,
        cacert: Union[str, bool, None] = None,
        debug: bool = False,
        token: Optional[str] = None,
        api_key: Optional[str] = None,
        basic_auth: Optional[str] = None,
    ) -> None:
        env = os.environ
        base = (base_url or env.get("ST2_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
        version = api_version or env.get("ST2_API_VERSION") or DEFAULT_API_VERSION
        self.endpoints: Dict[str, str] = {
            "base": base,
            "auth": auth_url or env.get("ST2_AUTH_URL") or "%s:9100" % base,
            "api": api_url or env.get("ST2_API_URL") or "%s:9101/%s" % (base, version),
            "stream": stream_url or env.get("ST2_STREAM_URL") or "%s:9102/%s" % (base, version),
        }
        self.cacert = _authority(cacert)
        self.debug = debug
        # Whoever makes another client, or starts st2, means the same user: as StackStorm's client.
        if token:
            env["ST2_AUTH_TOKEN"] = token
        if api_key:
            env["ST2_API_KEY"] = api_key
        self.token = token
        self.api_key = api_key
        self.basic_auth = basic_auth or env.get("ST2_BASIC_AUTH")

        api, auth, stream = (self._http(name) for name in ("api", "auth", "stream"))
        self.managers: Dict[str, Any] = {}
        for attribute, name, resource, manager in _MANAGERS:
            self.managers[name] = manager(resource, api)
            if attribute:
                setattr(self, attribute, self.managers[name])
        self.tokens = self.managers["Token"] = ResourceManager(models.Token, auth)
        self.managers["Stream"] = managers.Stream(stream)

    def get_user_info(self, **options: Any) -> Any:
        """Who the token is for."""
        answer = self.managers["Action"].client.get("/user", **options)
        answer.raise_for_status()
        return answer.json()

    def _http(self, service: str) -> HTTPClient:
        return HTTPClient(self.endpoints[service], self.cacert, self.debug, self.basic_auth)


def _authority(given: Union[str, bool, None]) -> Union[str, bool, None]:
    found = given if given is not None else os.environ.get("ST2_CACERT")
    if isinstance(found, str) and found.lower() in ("true", "1", "yes", "false", "0", "no", ""):
        return found.lower() in ("true", "1", "yes")
    if isinstance(found, str) and not os.path.isfile(found):
        raise ValueError('CA cert file "%s" does not exist.' % found)
    return found
