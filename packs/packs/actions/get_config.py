"""The configuration that actions of this pack see."""

from st2common.runners.base_action import Action


class GetPackConfig(Action):
    def run(self):
        return self.config
