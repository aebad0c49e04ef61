"""What the tests of all kinds have: the pack they belong to, and its fixtures."""

import inspect
import os
import unittest

__all__ = ["BasePackResourceTestCase"]


class BasePackResourceTestCase(unittest.TestCase):
    """A test in a pack's folder `tests/`."""

    def get_fixture_content(self, fixture_path: str) -> str:
        """The text of `tests/fixtures/<fixture_path>`."""
        path = os.path.join(self._pack_directory(), "tests", "fixtures", fixture_path)
        with open(path, encoding="utf-8") as file:
            return file.read()

    def _pack_directory(self) -> str:
        here = os.path.dirname(os.path.abspath(inspect.getfile(type(self))))
        # Tests may lie in folders below `tests/`.
        above = here
        while os.path.basename(above) != "tests" and os.path.dirname(above) != above:
            above = os.path.dirname(above)
        if os.path.basename(above) == "tests":
            return os.path.dirname(above)
        return os.path.dirname(here)
