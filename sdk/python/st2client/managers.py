"""Managers with more than the common methods."""

import json
from typing import Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import quote

from st2client.models import ActionAlias, ActionAliasExecution, Execution, Inquiry, KeyValuePair
from st2client.models.core import Resource, ResourceManager
from st2client.utils.httpclient import HTTPClient

__all__ = [
    "ActionAliases", "AliasExecutions", "Executions", "Inquiries", "Keys", "Packs", "ServiceMembers", "Stream",
    "TriggerInstances", "Webhooks",
]


class Executions(ResourceManager):
    """Started, looked at, paused, run again."""

    def create(self, instance: Resource, **options: Any) -> Any:
        return self._made(self.client.post("/executions", instance.serialize(), **options))

    def re_run(
        self,
        execution_id: str,
        parameters: Optional[Dict[str, Any]] = None,
        tasks: Optional[List[str]] = None,
        no_reset: Optional[List[str]] = None,
        delay: Optional[int] = None,
        **options: Any
    ) -> Any:
        wanted = tasks or []
        body = {
            "parameters": parameters or {},
            "tasks": wanted,
            "reset": sorted(set(wanted) - set(no_reset or [])),
            "delay": delay or 0,
        }
        return self._made(self.client.post("%s/re_run" % self._item(execution_id), body, **options))

    def pause(self, execution_id: str, **options: Any) -> Any:
        return self._made(self.client.put(self._item(execution_id), {"status": "pausing"}, **options))

    def resume(self, execution_id: str, **options: Any) -> Any:
        return self._made(self.client.put(self._item(execution_id), {"status": "resuming"}, **options))

    def get_output(self, execution_id: str, output_type: Optional[str] = None, **options: Any) -> str:
        params = {"output_type": output_type} if output_type else None
        return self._checked(self.client.get("%s/output" % self._item(execution_id), params=params, **options)).text

    def get_result(self, execution_id: str, **options: Any) -> str:
        return self._checked(self.client.get("%s/result" % self._item(execution_id), **options)).text

    def get_children(self, execution_id: str, depth: int = -1, **options: Any) -> List[Execution]:
        params = {"depth": depth}
        answer = self.client.get("%s/children" % self._item(execution_id), params=params, **options)
        return [self.resource.deserialize(item) for item in self._checked(answer).json()]


class Inquiries(ResourceManager):
    """Questions of workflows."""

    def respond(self, inquiry_id: str, inquiry_response: Any, **options: Any) -> Inquiry:
        body = {"id": inquiry_id, "response": inquiry_response}
        return self._made(self.client.put(self._item(inquiry_id), body, **options))


class Keys(ResourceManager):
    """The datastore."""

    def get_by_name(self, name: str, token: Any = None, **query: Any) -> Any:
        """The pair; an empty list if there is none, as StackStorm's client says it."""
        options = {key: query.pop(key) for key in ("api_key", "headers", "auth", "timeout") if key in query}
        answer = self.client.get(self._item(name) + "/", token=token, params=query, **options)
        return [] if answer.status_code == 404 else self._made(answer)

    def create(self, instance: Resource, **options: Any) -> Any:
        return self.update(instance, **options)

    def delete(self, instance: Any, **options: Any) -> Any:
        scope = getattr(instance, "scope", None)
        user = getattr(instance, "user", None)
        params = dict(options.pop("params", None) or {}, scope=scope, user=user)
        return self.delete_by_id(instance.name, params=params, **options)

    def update(self, instance: Any, **options: Any) -> KeyValuePair:
        return self._made(self.client.put(self._item(instance.name), instance.serialize(), **options))


class Packs(ResourceManager):
    """Installing and finding packs."""

    def install(
        self, packs: List[str], force: bool = False, skip_dependencies: bool = False, **options: Any
    ) -> Any:
        body = {"packs": packs, "force": force, "skip_dependencies": skip_dependencies}
        return self._made(self.client.post(self.path + "/install", body, **options))

    def remove(self, packs: List[str], **options: Any) -> Any:
        return self._made(self.client.post(self.path + "/uninstall", {"packs": packs}, **options))

    def search(self, args: Any, ignore_errors: bool = False, **options: Any) -> Any:
        """`args.query` searches, `args.pack` asks for one pack."""
        query, pack = getattr(args, "query", None), getattr(args, "pack", None)
        body = {"query": query} if query else {"pack": pack}
        answer = self.client.post(self.path + "/index/search", body, **options)
        if ignore_errors and not answer.ok:
            return None
        found = self._checked(answer).json()
        if isinstance(found, list):
            return [self.resource.deserialize(item) for item in found]
        return self.resource.deserialize(found) if found else None

    def register(self, packs: Optional[List[str]] = None, types: Optional[List[str]] = None, **options: Any) -> Any:
        body: Dict[str, Any] = {}
        if types:
            body["types"] = types
        if packs:
            body["packs"] = packs
        return self._made(self.client.post(self.path + "/register", body, **options))


class TriggerInstances(ResourceManager):
    """Events that occurred."""

    def re_emit(self, trigger_instance_id: str, **options: Any) -> Any:
        return self._checked(self.client.post("%s/re_emit" % self._item(trigger_instance_id), None, **options)).json()


class Webhooks(ResourceManager):
    """Sending events in."""

    def post_generic_webhook(
        self, trigger: str, payload: Optional[Dict[str, Any]] = None, trace_tag: Optional[str] = None, **options: Any
    ) -> Any:
        headers = dict(options.pop("headers", None) or {})
        if trace_tag:
            headers["St2-Trace-Tag"] = trace_tag
        body = {"trigger": trigger, "payload": payload or {}}
        return self._checked(self.client.post("/webhooks/st2", body, headers=headers, **options)).json()

    def match(self, instance: Resource, **options: Any) -> Any:
        return self._made(self.client.post(self.path + "/match", instance.serialize(), **options))


class ActionAliases(ResourceManager):
    """Which alias a command means."""

    def match(self, instance: Resource, **options: Any) -> Tuple[Any, str]:
        found = self._checked(self.client.post("/actionalias/match", instance.serialize(), **options)).json()
        return ActionAlias.deserialize(found["actionalias"]), found["representation"]


class AliasExecutions(ResourceManager):
    """Carrying out what somebody says."""

    def match_and_execute(self, instance: Resource, **options: Any) -> Any:
        answer = self.client.post("/aliasexecution/match_and_execute", instance.serialize(), **options)
        return ActionAliasExecution.deserialize(self._checked(answer).json())


class ServiceMembers(ResourceManager):
    """Running services."""

    def get_all(self, *_args: Any, **options: Any) -> List[Any]:
        groups = self._checked(self.client.get("/service_registry/groups", **options)).json()
        wanted = options.pop("group_id", None)
        found = []
        for group in groups.get("groups", []):
            if wanted in (None, group):
                path = "/service_registry/groups/%s/members" % quote(group)
                members = self._checked(self.client.get(path, **options)).json()
                found.extend(self.resource.deserialize(item) for item in members.get("members", []))
        return found


class Stream:
    """Server-sent events."""

    def __init__(self, client: HTTPClient) -> None:
        self.client = client

    def listen(self, events: Any = None, **options: Any) -> Iterator[Dict[str, Any]]:
        """The payloads of the events, for as long as the stream lasts."""
        names = [events] if isinstance(events, str) else list(events or [])
        params = {"events": ",".join(names)} if names else None
        data: List[str] = []
        for line in self.client.lines("/stream", params=params, **options):
            if line.startswith("data:"):
                data.append(line[5:].lstrip())
            elif not line and data:
                text, data = "\n".join(data), []
                if text:
                    yield json.loads(text)
