"""Sends an event to the generic webhook, as the user of the execution."""

import json
import os
import urllib.error
import urllib.request

from st2common.runners.base_action import Action

TIMEOUT_SECONDS = 60


class InjectTrigger(Action):
    def run(self, trigger=None, trigger_name=None, payload=None, trace_tag=None):
        if trigger and trigger_name:
            raise ValueError("Parameters `trigger` and `trigger_name` are mutually exclusive.")
        name = trigger_name or trigger
        if not name:
            raise ValueError("You must include the `trigger_name` parameter.")

        request = urllib.request.Request(
            os.environ["ST2_ACTION_API_URL"].rstrip("/") + "/webhooks/st2",
            data=json.dumps({"trigger": name, "payload": payload or {}}).encode("utf-8"),
            headers={
                "Content-Type": "application/json",
                "X-Auth-Token": os.environ["ST2_ACTION_AUTH_TOKEN"],
            },
            method="POST",
        )
        if trace_tag:
            request.add_header("St2-Trace-Tag", trace_tag)
        self.logger.debug('Injecting trigger "%s"', name)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.loads(response.read().decode("utf-8"))
        except urllib.error.HTTPError as error:
            raise ValueError("The API answered %d: %s" % (error.code, error.read().decode("utf-8", "replace")))
