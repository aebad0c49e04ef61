"""Whether a number is prime."""

from st2common.runners.base_action import Action


class IsPrime(Action):
    def run(self, value=0):
        self.logger.debug("value=%s", value)
        if value < 2 or value != int(value):
            return False
        divisor = 2
        while divisor * divisor <= value:
            if value % divisor == 0:
                return False
            divisor += 1
        return True
