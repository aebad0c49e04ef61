"""Prints and returns the content of a JSON file."""

import json

from st2common.runners.base_action import Action


class LoadAndPrintFixture(Action):
    def run(self, file_path):
        with open(file_path, encoding="utf-8") as fixture:
            content = json.load(fixture)
        print(json.dumps(content))
        return content
