"""One run: reads the request, prepares the process, runs the action, writes the result, leaves.

The control socket carries frames of 8 bytes of length (little-endian) and JSON. The request is an object:

    file_path   absolute
    pack, user, parameters, config, log_level
    env         variables to set (null removes one)
    path        what comes first on sys.path, in order
    join        files of control groups to write 0 into, before anything else
    limits      {"nofile": n, "as": bytes, "cpu": seconds, …}

With `"kind": "sensor"` the rest of the conversation is that of `sensor`; of the above it has only `file_path`, `pack`,
`log_level`, `env`, `path` and `limits`. Else the answer is `{"result": …, "status": true|false|null}`, or none if the action failed.
"""

import atexit
import json
import os
import struct
import sys
import threading
import traceback

from squall_host import action as actions
from squall_host import encode, imports

FRAME = struct.Struct("<Q")
# Exit code for a status that is neither a boolean nor None.
INVALID_STATUS_CODE = 220

# From the signal that says so to the one that ends a process which has used up its processor time.
CPU_GRACE_SECONDS = 2

# Where the modules of this package lie: their frames are left out of tracebacks.
_HERE = os.path.dirname(os.path.abspath(__file__))


def run(control, leave=True, learner=None):
    """Runs the request that comes over `control`; returns the exit code, or exits with it if `leave`.

    `learner` is a descriptor that is told what was imported beyond the names that come with it.
    """
    code = 1
    try:
        request = json.loads(_read_frame(control))
        _prepare(request)
        if request.get("kind") == "sensor":
            return _run_sensor(request, control, leave)
        answer, code = _run_action(request)
        if answer is not None:
            _write_frame(control, answer)
    except SystemExit as stop:
        code = exit_code(stop)
    except BaseException as error:
        print_exception(error)
    code = _finish(code)
    if learner:
        imports.tell(*learner)
    if leave:
        os._exit(code)
    return code


def _run_sensor(request, control, leave):
    # Most runs are actions; a warm interpreter for sensors has it imported already.
    from squall_host import sensor

    code = sensor.run(request, control)
    if leave:
        os._exit(code)
    return code


def _run_action(request):
    try:
        instance = actions.load(request)
        output = instance.run(**request["parameters"])
    except actions.LoadError as error:
        sys.stderr.write(str(error))
        return None, 1
    try:
        return encode.answer(output), 0
    except encode.InvalidStatus as error:
        sys.stderr.write(str(error))
        return None, INVALID_STATUS_CODE


def _prepare(request):
    for door in request.get("join", ()):
        with open(door, "w") as file:
            file.write("0")
    for name, value in request.get("env", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    sdk = os.path.dirname(_HERE)
    first = list(request.get("path", ()))
    own = [entry for entry in sys.path if entry not in first and entry != sdk]
    directory = os.path.dirname(request["file_path"])
    sys.path[:] = first + [sdk] + own + [directory]
    imports.give_way(first)
    sys.argv[:] = [request["file_path"]]
    limits = request.get("limits")
    if limits:
        _limit(limits)


def _limit(limits):
    import resource
    import signal

    for name, value in limits.items():
        which = getattr(resource, "RLIMIT_" + name.upper())
        most = value
        if name == "cpu":
            # First the author is told where the time went; code that doesn't hear it is killed.
            signal.signal(signal.SIGXCPU, _out_of_time)
            most += CPU_GRACE_SECONDS
        ceiling = resource.getrlimit(which)[1]
        if ceiling != resource.RLIM_INFINITY:
            most = min(most, ceiling)
        resource.setrlimit(which, (min(value, most), most))


def _out_of_time(_number, _frame):
    raise TimeoutError("the action has used all of the processor time that it may use")


def _finish(code):
    """What the interpreter does at its end, without tearing it down."""
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    return code


def exit_code(stop):
    """What the interpreter exits with for a SystemExit."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    sys.stderr.write("%s\n" % (stop.code,))
    return 1


def print_exception(error):
    """Prints the traceback without the frames of this package."""
    entry = error.__traceback__
    while entry is not None and _is_ours(entry):
        entry = entry.tb_next
    traceback.print_exception(type(error), error, entry)


def _is_ours(entry):
    return os.path.dirname(os.path.abspath(entry.tb_frame.f_code.co_filename)) == _HERE


def _read_frame(fd):
    size = FRAME.unpack(_read_exactly(fd, FRAME.size))[0]
    return _read_exactly(fd, size)


def _read_exactly(fd, size):
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError("the node closed the control socket")
        data += piece
    return bytes(data)


def _write_frame(fd, payload):
    data = memoryview(FRAME.pack(len(payload)) + payload)
    while data:
        data = data[os.write(fd, data):]
