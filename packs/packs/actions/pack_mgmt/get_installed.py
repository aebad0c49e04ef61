"""What is installed of a pack, and the state of its git checkout."""

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from st2common.runners.base_action import Action

TIMEOUT_SECONDS = 60


class GetInstalled(Action):
    def run(self, pack, branch="master"):
        installed = self._installed(pack)
        if installed is None:
            return {"pack": None, "git_status": None}
        return {"pack": installed, "git_status": self._git_status(installed.get("path"), branch)}

    def _installed(self, pack):
        request = urllib.request.Request(
            os.environ["ST2_ACTION_API_URL"].rstrip("/") + "/packs/" + urllib.parse.quote(pack, safe=""),
            headers={"X-Auth-Token": os.environ["ST2_ACTION_AUTH_TOKEN"]},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read().decode("utf-8"))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def _git_status(self, path, branch):
        if not path or not os.path.isdir(os.path.join(path, ".git")):
            return None
        status = self._git(path, "status", "--short", "--branch") or ""
        remotes = self._git(path, "remote", "-v") or ""
        ahead = self._git(path, "rev-list", "--count", "origin/%s..HEAD" % branch)
        if ahead and ahead != "0":
            status += "\n%s commits are not in origin/%s" % (ahead, branch)
        return "Status:\n%s\n\nRemotes:\n%s" % (status, remotes)

    @staticmethod
    def _git(path, *arguments):
        done = subprocess.run(
            ("git", "-C", path) + arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True
        )
        return done.stdout.strip() if done.returncode == 0 else None
