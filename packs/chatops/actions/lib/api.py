"""The API of the node that runs the action."""

import json
import os
import urllib.request


def call(path, body=None):
    """A request to this node's API, as the user of the execution."""
    request = urllib.request.Request(
        os.environ["ST2_ACTION_API_URL"].rstrip("/") + path,
        data=None if body is None else json.dumps(body).encode("utf-8"),
        headers={"Content-Type": "application/json", "X-Auth-Token": os.environ["ST2_ACTION_AUTH_TOKEN"]},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read().decode("utf-8"))
