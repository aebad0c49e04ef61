"""Prints the interpreter and its path."""

import sys

from st2common.runners.base_action import Action


class PrintPythonEnvironment(Action):
    def run(self):
        print("executable: %s" % sys.executable)
        print("version: %s" % sys.version)
        print("path: %s" % sys.path)
        print("prefix: %s" % sys.prefix)
