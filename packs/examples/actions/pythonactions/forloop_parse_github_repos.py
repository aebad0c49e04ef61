"""Names of repositories in the text of a page."""

import re

from st2common.runners.base_action import Action


class ParseGithubRepos(Action):
    def run(self, content):
        names = re.findall(r'itemprop="name codeRepository"[^>]*>\s*([^<\s]+)', content)
        return sorted(set(names))
