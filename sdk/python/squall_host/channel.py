"""A sensor's side of the channel to its container: one JSON object per line, both ways (docs/sensor-protocol.md).

Names of the standard library are bound here, before pack code runs: a pack that patches the library for green threads
must not reach these threads.
"""

import json
import os
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from os import read, write
from queue import SimpleQueue
from select import POLLIN, poll
from signal import SIGKILL
from time import monotonic

from squall_host import encode

__all__ = ["Channel", "Refused"]

READ_BYTES = 64 * 1024
# Beyond a day the exact time of the next look does not matter, and poll takes an int of milliseconds.
LONGEST_WAIT = 86400.0
# A signal that comes just before the main thread falls asleep is heard of when it wakes up.
NAP = 0.2


class Refused(Exception):
    """The container says why it does not take the event."""


class Channel:
    """Sends messages, awaits acknowledgements, and ends the process when its lease does."""

    def __init__(self, fd):
        self._fd = fd
        self._buffer = bytearray()
        self._writing = allocate_lock()
        self._waiting = {}
        self._last_id = 0
        self._state = allocate_lock()
        self._until = None
        self._modules = 0
        self._root = None
        self._ready = False
        self._main = get_ident()
        self._in_send = False
        self._interruption = None
        #: Changes of triggers as (change, trigger), in order.
        self.triggers = SimpleQueue()
        self.max_line = 1 << 20

    def handshake(self):
        """The `start` message; then the reader runs."""
        line = None
        while line is None:
            line = self._next_line()
            if line is None and not self._fill():
                self._leave()
        start = json.loads(line)
        self._until = start.get("lease_until")
        self.max_line = start.get("max_line", self.max_line)
        self._root = start.get("pack_directory")
        start_new_thread(self._read_on, ())
        return start

    def ready(self):
        """The sensor is set up: which files of its pack it consists of."""
        self.send({"type": "ready", "heartbeat": True, "files": self._files()})
        self._ready = True

    def dispatch(self, trigger, payload, trace_context):
        """Returns the id of the stored event; raises `Refused` for one that will never be stored.

        While the store is away this waits. A process that lost its lease never returns from here: it is ended.
        """
        done = allocate_lock()
        done.acquire()
        with self._state:
            self._last_id += 1
            ident = self._last_id
            self._waiting[ident] = slot = [done, None]
        message = {"type": "dispatch", "id": ident, "trigger": trigger, "payload": payload}
        if trace_context:
            message["trace_context"] = trace_context
        try:
            self.send(message)
            while not done.acquire(True, NAP):
                pass
        finally:
            with self._state:
                self._waiting.pop(ident, None)
        answer = slot[1]
        if "instance" in answer:
            return answer["instance"]
        raise Refused(answer.get("error", "refused"))

    def check_lease(self):
        """Does not return once the lease is over."""
        if self._until is not None and monotonic() >= self._until:
            self._leave()

    def log(self, level, logger, message):
        limit = self.max_line // 8
        if len(message) > limit:
            message = message[:limit] + " [truncated]"
        self.send({"type": "log", "level": level, "logger": logger, "message": message})

    def send(self, message):
        line = _dump(message) + b"\n"
        if len(line) > self.max_line:
            raise Refused("the message has %d bytes, the limit is %d" % (len(line), self.max_line))
        is_main = get_ident() == self._main
        if is_main:
            self._in_send = True
        try:
            self._write(line)
        finally:
            if is_main:
                self._in_send = False
                interruption, self._interruption = self._interruption, None
                if interruption is not None:
                    raise interruption

    def interrupt(self, error):
        """For a signal's handler: raises the error now, or once the message that is being sent is whole."""
        if not self._in_send:
            raise error
        self._interruption = error

    def _write(self, line):
        rest = memoryview(line)
        try:
            with self._writing:
                while rest:
                    rest = rest[write(self._fd, rest):]
        except OSError:
            self._leave()

    def _read_on(self):
        """The reader: acknowledgements, triggers, leases."""
        waiter = poll()
        waiter.register(self._fd, POLLIN)
        while True:
            line = self._next_line()
            if line is not None:
                self._take(json.loads(line))
                continue
            timeout = LONGEST_WAIT
            if self._until is not None:
                timeout = min(max(self._until - monotonic(), 0.0), LONGEST_WAIT)
            if waiter.poll(timeout * 1000.0):
                if not self._fill():
                    self._leave()
            else:
                self.check_lease()

    def _take(self, message):
        kind = message.get("type")
        if kind == "ack":
            with self._state:
                slot = self._waiting.get(message.get("id"))
            if slot is not None:
                slot[1] = message
                slot[0].release()
        elif kind == "lease":
            self._until = message["until"]
        elif kind == "trigger":
            self.triggers.put((message["change"], message["trigger"]))
        elif kind == "token":
            for name in ("ST2_AUTH_TOKEN", "ST2_ACTION_AUTH_TOKEN"):
                os.environ[name] = message["token"]
        elif kind == "ping":
            if self._ready and len(sys.modules) != self._modules:
                self.send({"type": "files", "files": self._files()})
            self.send({"type": "pong"})

    def _files(self):
        """Files of the pack that are imported."""
        self._modules = len(sys.modules)
        if not self._root:
            return []
        root = os.path.join(self._root, "")
        found = set()
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.startswith(root):
                found.add(path)
        return sorted(found)

    def _next_line(self):
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _fill(self):
        try:
            data = read(self._fd, READ_BYTES)
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    @staticmethod
    def _leave():
        """The container is gone or the lease is over: somebody else may be the owner. Nothing more may be done."""
        try:
            os.kill(0 if os.getpgrp() == os.getpid() else os.getpid(), SIGKILL)
        finally:
            os._exit(137)


def _dump(message):
    try:
        return encode.dump(encode.plain(message))
    except (encode.Unserialisable, UnicodeEncodeError):
        # Old packs dispatch what is no JSON: its text has to do.
        text = json.dumps(message, default=_text, skipkeys=True)
        return encode.dump(encode.plain(json.loads(text)))


def _text(value):
    try:
        return encode.plain(value)
    except encode.Unserialisable:
        return str(value)
