"""The alias that a command in a chat means."""

from lib.api import call
from st2common.runners.base_action import Action


class MatchAction(Action):
    def run(self, text):
        found = call("/actionalias/match", {"command": text})
        alias = found["actionalias"]
        return {
            "alias": {name: alias[name] for name in ("name", "pack", "action_ref")},
            "representation": found["representation"],
        }
