"""What runs import again and again is imported once, before they are forked.

A run tells which modules it had to import (`tell`); the warm interpreter that forked it forks a successor, which imports
them (`load`) and forks the next runs. Only modules of the standard library, of the SDK and of the interpreter's own
packages are learnt, never those of Squall's packs: their files may change at any time. A module whose import leaves more
behind than modules (threads, open files, signal handlers, variables of the environment, log handlers) is refused.
"""

import importlib
import json
import logging
import os
import signal
import socket
import sys
import sysconfig

# A datagram holds all names; longer lists are cut.
MAX_NAMES = 4000
MAX_BYTES = 150000

# First parts of the names of modules that were imported because runs had needed them.
preloaded = set()


def roots():
    """Directories whose modules may be learnt, each with a slash behind it."""
    found = {sysconfig.get_paths().get(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found.add(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return tuple({os.path.realpath(path) + "/" for path in found if path} | {path + "/" for path in found if path})


def fresh(known):
    """Names of modules beyond `known` that may be learnt, in the order in which they were first imported."""
    allowed = roots()
    names = []
    for name, module in list(sys.modules.items()):
        if name in known or name == "__main__":
            continue
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if origin in ("built-in", "frozen") or (isinstance(origin, str) and origin.startswith(allowed)):
            names.append(name)
    return names[:MAX_NAMES]


def tell(fd, known):
    """Sends what this run has imported to the interpreter that forked it, which may not care."""
    names = fresh(known)
    if not names:
        return
    data = json.dumps(names).encode()
    if len(data) > MAX_BYTES:
        return
    try:
        with socket.socket(fileno=os.dup(fd)) as learner:
            learner.send(data, socket.MSG_DONTWAIT)
    except OSError:
        # Somebody else tells it another time.
        pass


def load(names):
    """Imports modules; returns the first part of the name of the first one that isn't harmless, else None."""
    before = _traces()
    path = list(sys.path)
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            # Some exist only while something else runs.
            continue
        top = name.partition(".")[0]
        if _traces() != before:
            return top
        preloaded.add(top)
    sys.path[:] = path
    return None


def _traces():
    """What an import should leave as it was."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    root = logging.getLogger()
    return (
        len(os.listdir("/proc/self/task")),
        sorted(os.listdir("/proc/self/fd")),
        handlers,
        dict(os.environ),
        (root.level, list(root.handlers)),
        os.getcwd(),
        socket.getdefaulttimeout(),
    )


def give_way(directories):
    """Forgets preloaded modules of which a pack has its own in one of the directories."""
    for directory in directories if preloaded else ():
        try:
            entries = os.listdir(directory)
        except OSError:
            continue
        for entry in entries:
            top = entry[:-3] if entry.endswith(".py") else entry
            if top in preloaded and not _is_loaded_from(top, directory):
                for name in [name for name in sys.modules if name == top or name.startswith(top + ".")]:
                    del sys.modules[name]


def _is_loaded_from(name, directory):
    origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
    return isinstance(origin, str) and origin.startswith((directory + "/", os.path.realpath(directory) + "/"))


def after_fork():
    """What forks must not share."""
    random = sys.modules.get("numpy.random")
    if random is not None and hasattr(random, "seed"):
        random.seed()
