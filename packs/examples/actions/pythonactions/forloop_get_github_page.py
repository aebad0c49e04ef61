"""The text of one page of a list."""

import urllib.parse
import urllib.request

from st2common.runners.base_action import Action


class GetGithubPage(Action):
    def run(self, url, page=None):
        address = url if page is None else "%s?%s" % (url, urllib.parse.urlencode({"page": page}))
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.read().decode("utf-8", "replace")
