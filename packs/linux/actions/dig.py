"""Answers of a name server."""

import random
import shutil
import subprocess

from st2common.runners.base_action import Action


class DigAction(Action):
    def run(self, rand, count, nameserver, hostname, queryopts, querytype):
        if not shutil.which("dig"):
            return (False, "dig is not installed")
        command = ["dig"]
        if nameserver:
            command.append("@" + nameserver)
        command += ["+" + option.strip() for option in (queryopts or "").split(",") if option.strip()]
        command += [hostname, querytype]
        answered = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        if answered.returncode != 0:
            return (False, answered.stderr.strip() or answered.stdout.strip())
        lines = [line for line in answered.stdout.splitlines() if line.strip()]
        if rand:
            random.shuffle(lines)
        return lines[:count] if count else lines
