"""Prints the pack's configuration."""

from st2common.runners.base_action import Action


class PrintConfig(Action):
    def run(self):
        print("=========")
        for name in sorted(self.config):
            print("%s: %s" % (name, "********" if name.startswith("api_") else self.config[name]))
        print("=========")
