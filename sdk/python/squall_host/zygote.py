"""A warm interpreter that forks for every run.

The node sends a datagram of 8 bytes (the id of the run, little-endian) with three descriptors: stdout, stderr and the
control socket of the run. The answers are datagrams of 13 bytes: a letter, the id, and a number:

    H 0 pid        ready
    S id pid       the run was started
    F id errno     it could not be forked
    X id status    it ended, with its wait status

When the node is gone, so are the runs: they are killed with their sessions. No pack code is ever imported here: what a
module does when it is imported would be shared by all later runs.
"""

import gc
import os
import select
import signal
import socket
import struct

from squall_host import child

ANSWER = struct.Struct("<cQi")
REQUEST = struct.Struct("<Q")


def serve(fd):
    """Until the node closes the socket."""
    channel = socket.socket(fileno=fd)
    channel.setblocking(True)
    os.set_inheritable(fd, False)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    running = {}
    private = (wake_read, wake_write)
    gc.collect()
    gc.freeze()
    try:
        _send(channel, b"H", 0, os.getpid())
        while True:
            ready = dict(poll.poll())
            if wake_read in ready:
                _drain(wake_read)
                _reap(channel, running)
            if channel.fileno() in ready and not _fork_one(channel, running, private):
                break
    except (BrokenPipeError, ConnectionResetError):
        pass
    for pid in running:
        _kill(pid)
    os._exit(0)


def _drain(fd):
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass


def _send(channel, letter, ident, number):
    channel.send(ANSWER.pack(letter, ident, number))


def _reap(channel, running):
    while running:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ident = running.pop(pid, None)
        if ident is not None:
            _send(channel, b"X", ident, status)


def _fork_one(channel, running, private):
    """Serves one request; False when the node has closed the socket."""
    data, fds, _flags, _address = socket.recv_fds(channel, 64, 8)
    if not data:
        return False
    ident = REQUEST.unpack(data[: REQUEST.size])[0]
    try:
        pid = os.fork()
    except OSError as error:
        _close(fds)
        _send(channel, b"F", ident, error.errno or 0)
        return True
    if pid == 0:
        # Never returns.
        _become_child(channel, fds, private)
    _close(fds)
    running[pid] = ident
    _send(channel, b"S", ident, pid)
    return True


def _become_child(channel, fds, private):
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        channel.close()
        _close(private)
        stdout, stderr, control = fds
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        _close((stdout, stderr))
        os.set_inheritable(control, False)
        code = child.run(control, leave=False)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _close(fds):
    for fd in fds:
        os.close(fd)


def _kill(pid):
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass
