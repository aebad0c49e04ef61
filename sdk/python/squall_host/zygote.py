"""A warm interpreter that forks for every run.

The node sends a datagram of 8 bytes (the id of the run, little-endian) with three descriptors: stdout, stderr and the
control socket of the run. The answers are datagrams of 13 bytes: a letter, the id, and a number:

    H 0 pid        ready
    S id pid       the run was started
    F id errno     it could not be forked
    X id status    it ended, with its wait status

When the node is gone, so are the runs: they are killed with their sessions. No pack code is ever imported here: what a
module does when it is imported would be shared by all later runs. What runs import from elsewhere is imported in a
successor (`imports`), forked from here, which serves the socket once it is ready; the one before it only waits for its
own runs then. If the successor is lost, this one goes as well, and the node starts anew.
"""

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time

from squall_host import child, imports

ANSWER = struct.Struct("<cQi")
REQUEST = struct.Struct("<Q")

# Attempts to make a successor, each a second further from the one before, and seconds that one may take.
MAX_ATTEMPTS = 30
SPACE = 1.0
IMPORT_TIME = 60
READY = b" ready"


def serve(fd):
    """Until the node closes the socket."""
    channel = socket.socket(fileno=fd)
    channel.setblocking(True)
    os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    learner, teller = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    learner.setblocking(False)
    first = First(channel, learner, teller)
    _send(channel, b"H", 0, os.getpid())
    first.serve()


class Zygote:
    """An interpreter that forks runs."""

    def __init__(self, channel, teller):
        self.channel = channel
        self.teller = teller
        self.running = {}
        self.known = frozenset(sys.modules)
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self.wake_read, False)
        # What runs must not inherit.
        self.private = [self.wake_read, self.wake_write]
        self.poll = select.poll()
        self.poll.register(channel, select.POLLIN)
        self.poll.register(self.wake_read, select.POLLIN)

    def serve(self):
        """Never returns."""
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()
        try:
            while self.round():
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        for pid in self.running:
            _kill(pid)
        os._exit(0)

    def round(self, timeout=None):
        """Serves what is ready; False when the node has closed the socket."""
        ready = dict(self.poll.poll(timeout))
        if self.wake_read in ready:
            _drain(self.wake_read)
            self.reap()
        self.look(ready)
        events = ready.get(self.channel.fileno(), 0)
        if events & select.POLLIN:
            return self._fork_one()
        return not events

    def look(self, ready):
        """What else there is to see to."""

    def rest(self):
        """Serves no more requests, and only waits for its runs."""
        self.poll.modify(self.channel, 0)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ident = self.running.pop(pid, None)
            if ident is not None:
                _send(self.channel, b"X", ident, status)
            else:
                self.lost(pid)

    def lost(self, pid):
        """A process that is no run has ended."""

    def _fork_one(self):
        data, fds, _flags, _address = socket.recv_fds(self.channel, 64, 8)
        if not data:
            return False
        ident = REQUEST.unpack(data[: REQUEST.size])[0]
        try:
            pid = os.fork()
        except OSError as error:
            _close(fds)
            _send(self.channel, b"F", ident, error.errno or 0)
            return True
        if pid == 0:
            # Never returns.
            self._become_child(fds)
        _close(fds)
        self.running[pid] = ident
        _send(self.channel, b"S", ident, pid)
        return True

    def _become_child(self, fds):
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.channel.close()
            _close(self.private)
            stdout, stderr, control = fds
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            _close((stdout, stderr))
            os.set_inheritable(control, False)
            imports.after_fork()
            code = child.run(control, leave=False, learner=(self.teller.detach(), self.known))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)


class Successor(Zygote):
    """One that has imported what runs need. `life` tells when it is replaced, or its maker is gone."""

    def __init__(self, channel, teller, life):
        super().__init__(channel, teller)
        self.maker = os.getppid()
        self.life = life
        self.private.append(life)
        self.poll.register(life, select.POLLIN)
        self.rests = False

    def look(self, ready):
        if self.life in ready:
            if os.getppid() != self.maker:
                # What it has forked goes on, as after any loss of an interpreter.
                os._exit(1)
            self.poll.unregister(self.life)
            self.rest()
            self.rests = True
        if self.rests and not self.running:
            os._exit(0)


class First(Zygote):
    """The one that the node started: it makes successors."""

    def __init__(self, channel, learner, teller):
        super().__init__(channel, teller)
        self.learner = learner
        self.private.append(learner.fileno())
        self.poll.register(learner, select.POLLIN)
        self.learnt = set()
        # First parts of names of modules whose import isn't harmless.
        self.refused = set()
        self.attempts = 0
        self.not_before = 0.0
        # While one is made: its process, the pipe that it answers on, the end of `life` that is ours, what it
        # imports, and until when it may.
        self.making = None
        # The one that serves: its process, `life`, what it has imported.
        self.current = None

    def round(self, timeout=None):
        waits = self.making is not None or self._wanted()
        return super().round(200 if waits else timeout)

    def look(self, ready):
        if self.learner.fileno() in ready:
            self._learn()
        if self.making is not None:
            self._look_at_making(ready)
        elif self._wanted() and time.monotonic() >= self.not_before:
            self._make()

    def lost(self, pid):
        if self.current is not None and pid == self.current[0]:
            os._exit(1)

    def _learn(self):
        try:
            while True:
                self.learnt.update(json.loads(self.learner.recv(1 << 20)))
        except (BlockingIOError, ValueError):
            pass

    def _wanted(self):
        """What a successor should import that the one before it hasn't."""
        if self.attempts >= MAX_ATTEMPTS:
            return False
        has = self.current[2] if self.current is not None else self.known
        return any(name not in has and name.partition(".")[0] not in self.refused for name in self.learnt)

    def _make(self):
        self.attempts += 1
        self.not_before = time.monotonic() + self.attempts * SPACE
        names = {name for name in self.learnt if name.partition(".")[0] not in self.refused}
        answers, answer = os.pipe()
        theirs, ours = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            _close((answers, answer, theirs, ours))
            return
        if pid == 0:
            _close((answers, ours))
            self._become_successor(names, answer, theirs)
        _close((answer, theirs))
        self.private += [answers, ours]
        self.poll.register(answers, select.POLLIN)
        self.making = (pid, answers, ours, names, time.monotonic() + IMPORT_TIME)

    def _become_successor(self, names, answer, life):
        try:
            signal.set_wakeup_fd(-1)
            _close(self.private)
            self.learner.detach()
            # Parents before what is in them.
            guilty = imports.load(sorted(names))
            if guilty is None:
                successor = Successor(self.channel, self.teller, life)
                os.write(answer, READY)
                os.close(answer)
                successor.serve()
            os.write(answer, guilty.encode())
        except BaseException:
            pass
        finally:
            os._exit(1)

    def _look_at_making(self, ready):
        pid, answers, ours, names, deadline = self.making
        late = time.monotonic() > deadline
        if answers not in ready and not late:
            return
        said = b"" if late else os.read(answers, 256)
        self.poll.unregister(answers)
        self._forget(answers)
        self.making = None
        if said == READY:
            if self.current is None:
                self.rest()
            else:
                self._forget(self.current[1])
            self.current = (pid, ours, names)
            return
        _kill(pid)
        self._forget(ours)
        if said:
            self.refused.add(said.decode())
        else:
            # It was lost, or took too long: nobody knows by what.
            self.attempts = MAX_ATTEMPTS

    def _forget(self, fd):
        self.private.remove(fd)
        os.close(fd)


def _drain(fd):
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass


def _send(channel, letter, ident, number):
    channel.send(ANSWER.pack(letter, ident, number))


def _close(fds):
    for fd in fds:
        os.close(fd)


def _kill(pid):
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass
