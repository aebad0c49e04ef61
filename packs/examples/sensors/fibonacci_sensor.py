"""The next Fibonacci number at each poll; the place in the series lies in the datastore."""

import json

from st2reactor.sensor.base import PollingSensor


class FibonacciSensor(PollingSensor):
    KEY = "pair"

    def setup(self):
        self._logger = self.sensor_service.get_logger(name=self.__class__.__name__)

    def poll(self):
        stored = self.sensor_service.get_value(self.KEY)
        first, second = json.loads(stored) if stored else (0, 1)
        first, second = second, first + second
        self._logger.debug("next number: %d", first)
        self.sensor_service.dispatch(trigger="examples.fibonacci", payload={"count": first, "pack": "examples"})
        self.sensor_service.set_value(self.KEY, json.dumps([first, second]))

    def cleanup(self):
        pass

    def add_trigger(self, trigger):
        pass

    def update_trigger(self, trigger):
        pass

    def remove_trigger(self, trigger):
        pass
