"""The interpreter's version."""

import platform
import sys

from st2common.runners.base_action import Action


class PythonVersion(Action):
    def run(self):
        return {"version": platform.python_version(), "details": sys.version}
