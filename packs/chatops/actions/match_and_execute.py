"""Runs what a command in a chat means, and waits for its end."""

import time

from lib.api import call
from st2common.runners.base_action import Action


DONE = ("succeeded", "failed", "timeout", "canceled", "abandoned")
DEADLINE_SECONDS = 600


class ExecuteAction(Action):
    def run(self, text, source_channel=None, user=None):
        body = {"command": text, "user": user or "unknown", "source_channel": source_channel or "unknown"}
        execution = call("/aliasexecution/match_and_execute", body)["results"][0]["execution"]
        deadline = time.monotonic() + DEADLINE_SECONDS
        while execution["status"] not in DONE:
            if time.monotonic() > deadline:
                raise Exception("the execution %s takes too long" % execution["id"])
            time.sleep(0.5)
            execution = call("/executions/" + execution["id"])
        return execution["id"]
