"""Tests of Python actions."""

from typing import Any, Optional

from st2tests.mocks.action import MockActionService, MockActionWrapper
from st2tests.pack_resource import BasePackResourceTestCase

__all__ = ["BaseActionTestCase"]


class BaseActionTestCase(BasePackResourceTestCase):
    """Set `action_cls`, then ask for instances of it."""

    action_cls: Any = None

    def setUp(self) -> None:
        super().setUp()
        name = self.action_cls.__name__ if self.action_cls else "unknown"
        self.action_service = MockActionService(MockActionWrapper(pack="tests", class_name=name))

    def get_action_instance(self, config: Optional[dict] = None) -> Any:
        """Constructed as the runner does it: older classes get the service afterwards."""
        try:
            return self.action_cls(config=config, action_service=self.action_service)
        except TypeError as error:
            if "unexpected keyword argument 'action_service'" not in str(error):
                raise
        instance = self.action_cls(config=config)
        instance.action_service = self.action_service
        return instance
