"""The services of an action without a node."""

import logging
from typing import Any, Dict, List, Optional
from unittest import mock

from st2tests.mocks.datastore import MockDatastoreService

__all__ = ["MockActionWrapper", "MockActionService"]


class MockActionWrapper:
    """What the action may ask its service about the run."""

    def __init__(self, pack: str, class_name: str, log_level: str = "debug") -> None:
        self._pack = pack
        self._class_name = class_name
        self._log_level = log_level


class MockActionService:
    """`action_service` with a datastore in memory."""

    def __init__(self, action_wrapper: MockActionWrapper) -> None:
        self._action_wrapper = action_wrapper
        self._logger: Any = mock.Mock(spec=logging.RootLogger)
        self.logger = self._logger
        self._datastore_service = MockDatastoreService(
            self._logger, pack_name=action_wrapper._pack, class_name=action_wrapper._class_name
        )

    @property
    def datastore_service(self) -> MockDatastoreService:
        return self._datastore_service

    def get_logger(self, name: str = "") -> Any:
        return self._logger

    def get_user_info(self) -> Dict[str, Any]:
        return self._datastore_service.get_user_info()

    def list_values(
        self, local: bool = True, prefix: Optional[str] = None, limit: Optional[int] = None, offset: Optional[int] = None
    ) -> List[Any]:
        return self._datastore_service.list_values(local=local, prefix=prefix, limit=limit, offset=offset)

    def get_value(self, name: str, local: bool = True, scope: str = "system", decrypt: bool = False) -> Any:
        return self._datastore_service.get_value(name, local=local, scope=scope, decrypt=decrypt)

    def set_value(
        self,
        name: str,
        value: Any,
        ttl: Optional[int] = None,
        local: bool = True,
        scope: str = "system",
        encrypt: bool = False,
    ) -> bool:
        return self._datastore_service.set_value(name, value, ttl=ttl, local=local, scope=scope, encrypt=encrypt)

    def delete_value(self, name: str, local: bool = True, scope: str = "system") -> bool:
        return self._datastore_service.delete_value(name, local=local, scope=scope)
