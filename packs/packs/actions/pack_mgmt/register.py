"""Registers what the files of packs say, through the API of this node."""

import json
import os
import urllib.error
import urllib.request

from st2common.runners.base_action import Action

# What people write, and what the API calls it.
KINDS = {"policiy_types": "policy_types"}
TIMEOUT_SECONDS = 300


class RegisterPackContent(Action):
    def run(self, register="all", packs=None):
        kinds = [KINDS.get(kind.strip(), kind.strip()) for kind in register.split(",")]
        body = {"types": kinds}
        if packs:
            body["packs"] = list(reversed(packs))
        request = urllib.request.Request(
            os.environ["ST2_ACTION_API_URL"].rstrip("/") + "/packs/register",
            data=json.dumps(body).encode("utf-8"),
            headers={"Content-Type": "application/json", "X-Auth-Token": os.environ["ST2_ACTION_AUTH_TOKEN"]},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read().decode("utf-8"))
        except urllib.error.HTTPError as error:
            return (False, json.loads(error.read().decode("utf-8", "replace")).get("faultstring"))
