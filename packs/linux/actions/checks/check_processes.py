#!/usr/bin/env python3
"""Processes by STATE, name or pid: check_processes.py WHAT CRITERION [pidlist]."""

import json
import os
import sys


def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as stat:
                name, rest = stat.read().split("(", 1)[1].rsplit(")", 1)
            with open("/proc/%s/cmdline" % pid) as cmdline:
                command = cmdline.read().replace("\0", " ").strip()
        except OSError:
            continue
        yield pid, name, rest.split()[0], command


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else "name"
    criterion = sys.argv[2] if len(sys.argv) > 2 else ""
    own = str(os.getpid())
    found = {}
    for pid, name, state, command in processes():
        matches = {
            "name": criterion in name or criterion in command,
            "state": state == criterion,
            "pid": pid == criterion,
        }
        if matches.get(what) and pid != own:
            found[pid] = command or name
    print(json.dumps(found))
    if "pidlist" in sys.argv[3:]:
        print(" ".join(found), file=sys.stderr)


if __name__ == "__main__":
    main()
