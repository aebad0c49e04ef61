#!/usr/bin/env python3
"""Starts, stops or asks for a service: service.py ACT SERVICE."""

import os
import shutil
import subprocess
import sys


def command(act, service):
    if os.path.isdir("/run/systemd/system") and shutil.which("systemctl"):
        return ["systemctl", act, service]
    if shutil.which("service"):
        return ["service", service, act]
    return [os.path.join("/etc/init.d", os.path.basename(service)), act]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: service.py ACT SERVICE")
    sys.exit(subprocess.call(command(sys.argv[1], sys.argv[2])))
