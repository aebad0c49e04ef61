"""Tests of sensors."""

from typing import Any, Dict, List, Optional

from st2tests.mocks.sensor import MockSensorService, MockSensorWrapper
from st2tests.pack_resource import BasePackResourceTestCase

__all__ = ["BaseSensorTestCase"]


class BaseSensorTestCase(BasePackResourceTestCase):
    """Set `sensor_cls`, then ask for instances of it, and for what they dispatched."""

    sensor_cls: Any = None

    def setUp(self) -> None:
        super().setUp()
        name = self.sensor_cls.__name__ if self.sensor_cls else "unknown"
        self.sensor_service = MockSensorService(MockSensorWrapper(pack="tests", class_name=name))

    def get_sensor_instance(self, config: Optional[dict] = None, poll_interval: Optional[float] = None) -> Any:
        given: Dict[str, Any] = {"sensor_service": self.sensor_service}
        if config:
            given["config"] = config
        if poll_interval is not None:
            given["poll_interval"] = poll_interval
        return self.sensor_cls(**given)

    def get_dispatched_triggers(self) -> List[Dict[str, Any]]:
        """All of them, oldest first: `trigger`, `payload`, `trace_context`."""
        return self.sensor_service.dispatched_triggers

    def get_last_dispatched_trigger(self) -> Dict[str, Any]:
        return self.sensor_service.dispatched_triggers[-1]

    def assertTriggerDispatched(  # noqa: N802 - the name that packs call
        self, trigger: str, payload: Optional[dict] = None, trace_context: Any = None
    ) -> bool:
        """Fails unless one like this was dispatched; what isn't given may be anything."""
        for item in self.get_dispatched_triggers():
            fits = item["trigger"] == trigger
            fits = fits and (payload is None or item["payload"] == payload)
            if fits and (trace_context is None or item["trace_context"] == trace_context):
                return True
        raise AssertionError('Trigger "%s" hasn\'t been dispatched' % trigger)
