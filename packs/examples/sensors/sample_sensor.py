"""Events at random moments, until the container says stop."""

import random
import threading

from st2reactor.sensor.base import Sensor


class SampleSensor(Sensor):
    def setup(self):
        self._logger = self.sensor_service.get_logger(name=self.__class__.__name__)
        self._stopped = threading.Event()

    def run(self):
        while not self._stopped.wait(random.uniform(5, 15)):
            self._logger.debug("dispatching")
            self.sensor_service.dispatch(trigger="examples.event", payload={"data": random.random()})

    def cleanup(self):
        self._stopped.set()

    def add_trigger(self, trigger):
        pass

    def update_trigger(self, trigger):
        pass

    def remove_trigger(self, trigger):
        pass
