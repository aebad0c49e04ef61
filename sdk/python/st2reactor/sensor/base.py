"""Base classes of sensors."""

import abc
import time

__all__ = ["Sensor", "PollingSensor"]

DEFAULT_POLL_INTERVAL = 5


class BaseSensor(abc.ABC):
    """What both kinds have: the service, the configuration and the trigger call-backs."""

    def __init__(self, sensor_service, config=None):
        self._sensor_service = sensor_service
        self.sensor_service = sensor_service
        self._config = config or {}
        self.config = self._config

    @abc.abstractmethod
    def setup(self):
        """Called once, before the sensor starts."""

    @abc.abstractmethod
    def run(self):
        """Runs until the process ends."""

    @abc.abstractmethod
    def cleanup(self):
        """Called when the process ends."""

    @abc.abstractmethod
    def add_trigger(self, trigger):
        """A trigger of the sensor's types exists."""

    @abc.abstractmethod
    def update_trigger(self, trigger):
        """A trigger changed."""

    @abc.abstractmethod
    def remove_trigger(self, trigger):
        """A trigger is gone."""


class Sensor(BaseSensor, abc.ABC):
    """A sensor whose `run` blocks."""


class PollingSensor(BaseSensor, abc.ABC):
    """A sensor that is asked every `poll_interval` seconds."""

    def __init__(self, sensor_service, config=None, poll_interval=DEFAULT_POLL_INTERVAL):
        super().__init__(sensor_service=sensor_service, config=config)
        self._poll_interval = poll_interval

    @abc.abstractmethod
    def poll(self):
        """Looks once."""

    def run(self):
        while True:
            self.poll()
            time.sleep(self._poll_interval)

    def get_poll_interval(self):
        return self._poll_interval

    def set_poll_interval(self, poll_interval):
        self._poll_interval = poll_interval
