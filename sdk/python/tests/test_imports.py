"""What is imported ahead of runs, and what isn't."""

import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ImportsTest(unittest.TestCase):
    """Each in an interpreter of its own: imports can't be undone."""

    def run_code(self, code, **files):
        with tempfile.TemporaryDirectory() as directory:
            for name, text in files.items():
                with open(os.path.join(directory, name + ".py"), "w") as file:
                    file.write(textwrap.dedent(text))
            head = "import sys\nsys.path[:0] = [%r, %r]\nfrom squall_host import imports\n" % (SDK, directory)
            head += "directory = %r\n" % directory
            code = head + textwrap.dedent(code)
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    def assert_fine(self, run):
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def test_harmless_modules_are_loaded(self):
        code = """
            assert imports.load(["good", "not.there", "decimal"]) is None
            assert {"good", "decimal"} <= imports.preloaded and "not" not in imports.preloaded
        """
        self.assert_fine(self.run_code(code, good="VALUE = 1"))

    def test_what_leaves_more_behind_is_named(self):
        for bad in (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            "FILE = open('/dev/null')",
            "import os\nos.environ['LEFT'] = '1'",
            "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)",
            "import logging\nlogging.basicConfig()",
        ):
            run = self.run_code("assert imports.load(['bad', 'good']) == 'bad'", bad=bad, good="")
            self.assertEqual(run.returncode, 0, bad + run.stderr)

    def test_only_modules_outside_of_packs_are_learnt(self):
        code = """
            known = frozenset(sys.modules)
            import mine, decimal
            names = imports.fresh(known)
            assert "decimal" in names and "mine" not in names, names
        """
        self.assert_fine(self.run_code(code, mine=""))

    def test_a_packs_own_module_comes_first(self):
        code = """
            imports.load(["decimal"])
            imports.give_way([directory])
            import decimal
            assert decimal.OWN == 1
        """
        self.assert_fine(self.run_code(code, decimal="OWN = 1"))

    def test_runs_tell_what_they_imported(self):
        code = """
            import socket
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            known = frozenset(sys.modules)
            import decimal
            imports.tell(there.fileno(), known)
            assert b'"decimal"' in here.recv(1 << 20)
        """
        run = self.run_code(code)
        self.assert_fine(run)


if __name__ == "__main__":
    unittest.main()
