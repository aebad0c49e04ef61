"""Runs StackStorm's client many times without starting Python many times.

Reads a JSON list of arguments per line; for each it forks, runs the client in the child with standard output and error
in files, and prints a JSON line with both and the exit code.
"""

import json
import os
import sys
import tempfile

sys.argv = ["st2"]

import st2client.shell


def child(arguments, out, err):
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out.fileno(), 1), (err.fileno(), 2)):
        os.dup2(source, target)
    sys.argv = ["st2"] + arguments
    code = 1
    try:
        code = st2client.shell.main(arguments)
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        sys.stderr.write("%s: %s\n" % (type(error).__name__, error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line), out, err)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "stdout": out.read().decode("utf-8", "replace"),
            "stderr": err.read().decode("utf-8", "replace"),
        }
    print(json.dumps(answer), flush=True)
