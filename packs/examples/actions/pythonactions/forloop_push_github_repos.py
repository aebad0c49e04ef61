"""Where names of repositories would be sent to."""

from st2common.runners.base_action import Action


class PushGithubRepos(Action):
    def run(self, data_to_push):
        for name in data_to_push:
            self.logger.info("pushing %s", name)
        return len(data_to_push)
