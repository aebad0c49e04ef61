"""The datastore and the user, through the node's API with the token of the execution.

Environment: `ST2_ACTION_API_URL` (with `/v1`), `ST2_ACTION_API_SOCKET`, `ST2_ACTION_AUTH_TOKEN`.
"""

import json
import os

from st2common.constants.keyvalue import DATASTORE_KEY_SEPARATOR, SYSTEM_SCOPE

__all__ = ["ActionDatastoreService", "KeyValuePair", "DatastoreError"]

TIMEOUT_SECONDS = 60


class DatastoreError(Exception):
    """The API refused or could not be reached."""

    def __init__(self, text, status=None):
        super().__init__(text)
        self.status = status


class KeyValuePair:
    """A pair as the API shows it: `name`, `value`, `scope` and what else it sends."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    @property
    def id(self):
        return self.name

    def to_dict(self):
        return dict(self.__dict__)

    serialize = to_dict

    def __repr__(self):
        return "<KeyValuePair name=%s>" % getattr(self, "name", None)


class ActionDatastoreService:
    """Pairs named `<pack>.<class>:<name>` if local, else as given."""

    def __init__(self, logger, pack_name, class_name, api_url=None, auth_token=None):
        self._logger = logger
        self._pack_name = pack_name
        self._class_name = class_name
        self._api_url = api_url or os.environ.get("ST2_ACTION_API_URL", "http://127.0.0.1:9101/v1")
        self._token = auth_token

    def get_user_info(self):
        """Who the action acts as."""
        return self._call("GET", "/user")

    def list_values(self, local=True, prefix=None, limit=None, offset=None):
        """Pairs whose names begin with the prefix; secret values come as ciphertext."""
        full = self._full_prefix(local, prefix)
        query = {"prefix": full, "limit": limit, "offset": offset}
        return [KeyValuePair(**item) for item in self._call("GET", "/keys", query=query) or []]

    def get_value(self, name, local=True, scope=SYSTEM_SCOPE, decrypt=False):
        """The value, or None if there is none or it can't be read."""
        self._check_scope(scope)
        query = {"decrypt": "true" if decrypt else "false", "scope": scope}
        try:
            found = self._call("GET", self._key_path(name, local), query=query)
        except DatastoreError as error:
            if error.status != 404:
                self._logger.warning("Could not read the datastore item %s: %s", name, error)
            return None
        return found.get("value") if isinstance(found, dict) else None

    def set_value(self, name, value, ttl=None, local=True, scope=SYSTEM_SCOPE, encrypt=False):
        """Stores `str(value)`; for `ttl` seconds if given."""
        self._check_scope(scope)
        full = self._full_name(name, local)
        body = {"id": full, "name": full, "value": str(value), "scope": scope}
        if encrypt:
            body["secret"] = True
        if ttl:
            body["ttl"] = ttl
        self._call("PUT", self._key_path(name, local), body=body)
        return True

    def delete_value(self, name, local=True, scope=SYSTEM_SCOPE):
        """Whether it was deleted."""
        self._check_scope(scope)
        try:
            self._call("DELETE", self._key_path(name, local), query={"scope": scope})
        except DatastoreError as error:
            if error.status != 404:
                self._logger.warning("Could not delete the datastore item %s: %s", name, error)
            return False
        return True

    def get_api_client(self):
        """StackStorm's own client, if it is installed where the action runs."""
        from st2client.client import Client

        return Client(api_url=self._api_url, token=self._auth_token())

    def _auth_token(self):
        return self._token or os.environ.get("ST2_ACTION_AUTH_TOKEN")

    @staticmethod
    def _check_scope(scope):
        if scope != SYSTEM_SCOPE:
            raise ValueError("Scope %s is unsupported." % scope)

    def _local_prefix(self):
        return "%s.%s%s" % (self._pack_name, self._class_name, DATASTORE_KEY_SEPARATOR)

    def _full_name(self, name, local):
        return self._local_prefix() + name if local else name

    def _full_prefix(self, local, prefix):
        if not local:
            return prefix
        return self._local_prefix() + (prefix or "")

    def _key_path(self, name, local):
        from urllib.parse import quote

        return "/keys/" + quote(self._full_name(name, local), safe=":")

    def _call(self, method, path, query=None, body=None):
        # Few actions use the datastore: the HTTP client is imported when one does.
        import http.client
        from urllib.parse import urlencode

        from st2common.util import local_api

        target = path
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            target += "?" + urlencode(given)
        headers = {"Accept": "application/json"}
        token = self._auth_token()
        if token:
            headers["X-Auth-Token"] = token
        data = None
        if body is not None:
            data = json.dumps(body).encode("utf-8")
            headers["Content-Type"] = "application/json"
        connection, base = local_api.connect(self._api_url, TIMEOUT_SECONDS)
        try:
            connection.request(method, base + target, body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise DatastoreError("%s %s: %s" % (method, path, error)) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise DatastoreError(_fault(answer.status, answer.reason, text), answer.status)
        return json.loads(text) if text else None


def _fault(status, reason, text):
    try:
        message = json.loads(text)["faultstring"]
    except (ValueError, KeyError, TypeError):
        message = text[:200]
    return "%d %s: %s" % (status, reason, message)
