"""The services of a sensor without a node."""

import logging
from typing import Any, Dict, List, Optional
from unittest import mock

from st2common.models.api.trace import TraceContext
from st2tests.mocks.action import MockActionService

__all__ = ["MockSensorWrapper", "MockSensorService"]


class MockSensorWrapper:
    """What the sensor's service knows of it."""

    def __init__(self, pack: str, class_name: str) -> None:
        self._pack = pack
        self._class_name = class_name


class MockSensorService(MockActionService):
    """`sensor_service` that remembers what was dispatched."""

    def __init__(self, sensor_wrapper: Any) -> None:
        super().__init__(sensor_wrapper)
        self._sensor_wrapper = sensor_wrapper
        self.dispatched_triggers: List[Dict[str, Any]] = []

    def get_logger(self, name: str = "") -> Any:
        return mock.Mock(spec=logging.RootLogger)

    def dispatch(self, trigger: str, payload: Optional[dict] = None, trace_tag: Optional[str] = None) -> None:
        context = TraceContext(trace_tag=trace_tag) if trace_tag else None
        self.dispatch_with_context(trigger, payload=payload, trace_context=context)

    def dispatch_with_context(self, trigger: str, payload: Optional[dict] = None, trace_context: Any = None) -> None:
        item = {"trigger": trigger, "payload": payload, "trace_context": trace_context}
        self.dispatched_triggers.append(item)
