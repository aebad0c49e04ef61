"""A datastore in memory."""

import logging
from typing import Any, Dict, List, Optional

from st2common.constants.keyvalue import DATASTORE_KEY_SEPARATOR, SYSTEM_SCOPE
from st2common.services.datastore import KeyValuePair

__all__ = ["MockDatastoreService"]


class MockDatastoreService:
    """Names are made as in the real one; values are kept as they are given."""

    def __init__(self, logger: Any, pack_name: str, class_name: str, api_username: Optional[str] = None) -> None:
        self._logger = logger or logging.getLogger(__name__)
        self._pack_name = pack_name
        self._class_name = class_name
        self._username = api_username or "admin"
        self._datastore_items: Dict[str, KeyValuePair] = {}

    def get_user_info(self) -> Dict[str, Any]:
        return {
            "username": self._username,
            "rbac": {"is_admin": True, "enabled": True, "roles": ["admin"]},
            "authentication": {"method": "authentication token", "location": "header"},
        }

    def list_values(
        self, local: bool = True, prefix: Optional[str] = None, limit: Optional[int] = None, offset: Optional[int] = None
    ) -> List[KeyValuePair]:
        begin = (self._full_name("", local)) + (prefix or "")
        found = [item for name, item in self._datastore_items.items() if name.startswith(begin)]
        first = offset or 0
        return found[first:first + limit] if limit else found[first:]

    def get_value(self, name: str, local: bool = True, scope: str = SYSTEM_SCOPE, decrypt: bool = False) -> Any:
        self._check_scope(scope)
        item = self._datastore_items.get(self._full_name(name, local))
        return None if item is None else item.value

    def set_value(
        self,
        name: str,
        value: Any,
        ttl: Optional[int] = None,
        local: bool = True,
        scope: str = SYSTEM_SCOPE,
        encrypt: bool = False,
    ) -> bool:
        self._check_scope(scope)
        if ttl:
            self._logger.warning("The datastore of tests keeps values for ever: the time to live is not heeded")
        full = self._full_name(name, local)
        self._datastore_items[full] = KeyValuePair(name=full, value=value, scope=scope)
        return True

    def delete_value(self, name: str, local: bool = True, scope: str = SYSTEM_SCOPE) -> bool:
        self._check_scope(scope)
        return self._datastore_items.pop(self._full_name(name, local), None) is not None

    @staticmethod
    def _check_scope(scope: str) -> None:
        if scope != SYSTEM_SCOPE:
            raise ValueError("Scope %s is unsupported." % scope)

    def _full_name(self, name: str, local: bool) -> str:
        if not local:
            return name
        return "%s.%s%s%s" % (self._pack_name, self._class_name, DATASTORE_KEY_SEPARATOR, name)
