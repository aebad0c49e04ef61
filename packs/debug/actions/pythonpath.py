"""The import path, as the environment and the interpreter have it."""

import os
import sys

from st2common.runners.base_action import Action


class PythonPath(Action):
    def run(self):
        return {"PYTHONPATH": os.environ.get("PYTHONPATH"), "sys.path": list(sys.path)}
