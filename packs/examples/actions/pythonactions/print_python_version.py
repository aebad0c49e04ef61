"""Prints the version of the interpreter."""

import sys

from st2common.runners.base_action import Action


class PrintPythonVersion(Action):
    def run(self):
        print("Using Python executable: %s" % sys.executable)
        print("Using Python version: %s" % sys.version)
