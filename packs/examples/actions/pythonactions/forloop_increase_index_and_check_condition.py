"""The next page, or a failure that ends the loop."""

from st2common.runners.base_action import Action


class IncreaseIndexAndCheckCondition(Action):
    def run(self, index, pagesize, input):
        if len(input) < int(pagesize):
            return (False, "that was the last page")
        return (True, int(index) + 1)
