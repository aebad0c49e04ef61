"""Commands and quoting."""

import os
import shlex
import subprocess

__all__ = ["run_command", "quote_unix", "quote_windows"]


def run_command(
    cmd, stdin=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE, shell=False, cwd=None, env=None,
    close_fds=None,
):
    """Runs `cmd` to its end: `(exit code, stdout, stderr)` with the outputs as text."""
    if not isinstance(cmd, (str, list, tuple)):
        raise TypeError("cmd must be a string or a list of strings")
    done = subprocess.run(
        cmd, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, cwd=cwd,
        env=env or os.environ.copy(), close_fds=True if close_fds is None else close_fds, check=False,
    )
    return (done.returncode, _text(done.stdout), _text(done.stderr))


def _text(data):
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data


def quote_unix(value):
    """`value` as one word of a POSIX shell."""
    return shlex.quote(str(value))


def quote_windows(value):
    """`value` as one argument of a Windows command line."""
    return subprocess.list2cmdline([str(value)])
