#!/usr/bin/env python3
"""Prints what the package manager knows of a package: --pkgname=NAME."""

import json
import subprocess
import sys


def main():
    name = next((a.split("=", 1)[1] for a in sys.argv[1:] if a.startswith("--pkgname=")), None)
    if not name:
        sys.exit("--pkgname is missing")
    shown = subprocess.run(["apt-cache", "show", name], stdout=subprocess.PIPE, universal_newlines=True)
    if shown.returncode != 0:
        sys.exit(shown.returncode)
    fields = {}
    for line in shown.stdout.splitlines():
        if not line:
            break
        if not line.startswith(" ") and ":" in line:
            key, value = line.split(":", 1)
            fields[key] = value.strip()
    print(json.dumps(fields))


if __name__ == "__main__":
    main()
