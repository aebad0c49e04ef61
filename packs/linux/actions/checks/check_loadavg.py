#!/usr/bin/env python3
"""Load per processor: PERIOD is 1, 5, 15 or all."""

import json
import os
import sys

PERIODS = ["1", "5", "15"]


def main():
    period = sys.argv[1] if len(sys.argv) > 1 else "all"
    loads = dict(zip(PERIODS, (load / (os.cpu_count() or 1) for load in os.getloadavg())))
    if period in loads:
        print(loads[period])
    else:
        print(json.dumps({name: str(load) for name, load in loads.items()}))


if __name__ == "__main__":
    main()
