"""Prints lines to standard output and standard error in turn."""

import sys
import time

from st2common.runners.base_action import Action


class PrintToStdoutAndStderr(Action):
    def run(self, count=100, sleep_delay=0.5):
        for number in range(1, count + 1):
            if number % 2:
                print("stderr line %d" % number, file=sys.stderr, flush=True)
            else:
                print("stdout line %d" % number, flush=True)
            time.sleep(sleep_delay)
