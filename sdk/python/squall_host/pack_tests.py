"""Runs the tests of a pack: `squall pack test`.

They run with pytest, in a virtualenv with the pack's requirements and those of its tests; or, if asked for, with this
interpreter and what it has. The pack's folders come after the standard library, so that a file `actions/inspect.py`
takes nobody's place, and before everything that is installed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from typing import List, Optional

__all__ = ["main"]

SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What tests may import without naming it; PyYAML is for the aliases.
USUAL = ["pytest", "mock", "six", "pyyaml"]
FOLDERS = ["lib", "sensors", "actions", os.path.join("actions", "lib"), "etc"]
# Of pytest: no test was collected.
NOTHING_COLLECTED = 5


def main(arguments: Optional[List[str]] = None) -> int:
    """Prepares the virtualenv and runs the tests in it; returns their exit code."""
    options = _parser().parse_args(arguments)
    pack = os.path.abspath(options.pack)
    if not os.path.isdir(os.path.join(pack, "tests")):
        print("No tests found.")
        return 0
    python = sys.executable
    if not options.no_virtualenv:
        try:
            python = _virtualenv(pack, options)
        except subprocess.CalledProcessError as error:
            print("Can't prepare the virtualenv: %s ended with %d" % (error.cmd[0], error.returncode), file=sys.stderr)
            return 1
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONPATH", None)
    given = {"pack": pack, "arguments": _pytest_arguments(options), "only": options.file, "verbose": options.verbose}
    command = [python, os.path.abspath(__file__), "--inside", json.dumps(given)]
    return subprocess.run(command, cwd=pack, env=environment, check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="squall pack test", description="Runs the tests of a pack.")
    parser.add_argument("pack", help="the pack's directory")
    parser.add_argument("-f", "--file", help="only this file, class or test: test_x.py::Class::test_y")
    parser.add_argument("-c", "--coverage", action="store_true", help="show what the tests reach")
    parser.add_argument("-j", "--just-tests", action="store_true", help="use the virtualenv of the last time as it is")
    parser.add_argument("-t", "--timing", action="store_true", help="show how long the tests take")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what pip does")
    parser.add_argument("-x", "--no-virtualenv", action="store_true", help="use the interpreter and what it has")
    parser.add_argument("--virtualenvs", help="where virtualenvs are kept")
    return parser


def _pytest_arguments(options: argparse.Namespace) -> List[str]:
    arguments = ["-s", "-v", "-p", "no:cacheprovider"]
    if options.coverage:
        arguments += ["--cov=actions", "--cov=sensors", "--cov=lib", "--cov-report=term-missing"]
    if options.timing:
        arguments.append("--durations=0")
    return arguments + [os.path.join("tests", options.file) if options.file else "tests"]


def _virtualenv(pack: str, options: argparse.Namespace) -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    parent = options.virtualenvs or os.path.join(cache, "squall", "pack-tests")
    directory = os.path.join(parent, os.path.basename(pack))
    python = os.path.join(directory, "bin", "python")
    if options.just_tests and os.path.exists(python):
        return python
    os.makedirs(parent, exist_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
    uv = shutil.which("uv")
    wanted = USUAL + (["pytest-cov"] if options.coverage else [])
    for name in ("requirements.txt", "requirements-tests.txt"):
        if os.path.isfile(os.path.join(pack, name)):
            wanted += ["-r", name]
    print("Preparing a virtualenv for the tests ...", flush=True)
    quiet = [] if options.verbose else ["--quiet"]
    if uv:
        make = [uv, "venv", "--python", sys.executable, "--system-site-packages", directory]
        install = [uv, "pip", "install", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", "--system-site-packages", directory]
        install = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run(make, check=True, cwd=pack, stdout=None if options.verbose else subprocess.DEVNULL)
    subprocess.run(install + quiet + wanted, check=True, cwd=pack)
    return python


def _inside(given: dict) -> int:
    """In the interpreter that the tests run with."""
    pack = given["pack"]
    # The folder of this file is no place to import from.
    rest = [entry for entry in sys.path if os.path.abspath(entry) != os.path.dirname(os.path.abspath(__file__))]
    installed = [i for i, entry in enumerate(rest) if "site-packages" in entry or "dist-packages" in entry]
    first = installed[0] if installed else len(rest)
    own = [os.path.join(pack, name) for name in FOLDERS if os.path.isdir(os.path.join(pack, name))]
    sys.path[:] = rest[:first] + own + [pack] + rest[first:] + [SDK]
    try:
        import pytest
    except ImportError:
        pytest = None
    if pytest is None:
        return _with_unittest(pack, given["only"])
    code = int(pytest.main(given["arguments"]))
    return 0 if code == NOTHING_COLLECTED and not given["only"] else code


def _with_unittest(pack: str, only: Optional[str]) -> int:
    import unittest

    print("pytest isn't installed here: the tests run with unittest", flush=True)
    tests = os.path.join(pack, "tests")
    loader = unittest.TestLoader()
    if only:
        sys.path.insert(0, tests)
        parts = only.split("::")
        name = os.path.splitext(parts[0])[0].replace(os.sep, ".")
        suite = loader.loadTestsFromName(".".join([name] + parts[1:]))
    else:
        top = pack if os.path.isfile(os.path.join(tests, "__init__.py")) else tests
        suite = loader.discover(tests, top_level_dir=top)
    return 0 if unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(_inside(json.loads(sys.argv[2])))
    sys.exit(main())
