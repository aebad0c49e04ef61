"""What a chat is told of an execution."""

import json

from lib.api import call
from st2common.runners.base_action import Action


MESSAGE = "Action {action} ({id}) {status} in {seconds:.1f} s\n{result}"
LONGEST_RESULT = 2000


class FormatResultAction(Action):
    def run(self, execution_id):
        execution = call("/executions/" + execution_id)
        settings = self._result_settings(execution)
        if settings.get("enabled") is False:
            return {"enabled": False, "message": ""}
        result = json.dumps(execution.get("result", {}), indent=2, sort_keys=True)
        message = MESSAGE.format(
            action=execution["action"]["ref"],
            id=execution["id"],
            status=execution["status"],
            seconds=execution.get("elapsed_seconds", 0.0),
            result=result[:LONGEST_RESULT],
        )
        formatted = {"enabled": True, "message": message}
        if settings.get("extra"):
            formatted["extra"] = settings["extra"]
        return formatted

    @staticmethod
    def _result_settings(execution):
        reference = execution.get("context", {}).get("action_alias_ref")
        if not reference:
            return {}
        return call("/actionalias/" + reference["id"]).get("result") or {}
