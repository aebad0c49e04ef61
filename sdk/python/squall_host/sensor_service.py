"""The object given to sensors as `sensor_service`."""

import time

from squall_host.channel import Refused
from st2common import log
from st2common.services.datastore import ActionDatastoreService, DatastoreError

__all__ = ["SensorService", "SensorDatastoreService"]

# How long the datastore is tried while the API is away: a sensor that takes "away" for "not there" loses its place.
PATIENCE_SECONDS = 30.0
AWAY = (None, 502, 503, 504)


class SensorDatastoreService(ActionDatastoreService):
    """Reads and writes only while the sensor is this process's, and waits for an API that is away for a moment."""

    def __init__(self, link, logger, pack_name, class_name, api_url):
        super().__init__(logger, pack_name, class_name, api_url=api_url)
        self._link = link

    def _auth_token(self):
        import os

        return os.environ.get("ST2_AUTH_TOKEN")

    def _call(self, method, path, query=None, body=None):
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = 0.1
        while True:
            self._link.check_lease()
            try:
                return super()._call(method, path, query=query, body=body)
            except DatastoreError as error:
                if error.status not in AWAY or time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 2.0)


class SensorService:
    """Dispatches events and reaches the datastore."""

    def __init__(self, link, pack, class_name, logger, start):
        self._link = link
        self._pack = pack
        self._class_name = class_name
        self._logger = logger
        self._page_size = start.get("max_page_size")
        self._datastore_service = SensorDatastoreService(link, logger, pack, class_name, start.get("api_url"))

    @property
    def datastore_service(self):
        return self._datastore_service

    def get_logger(self, name):
        """A logger below the sensor's own."""
        return log.getLogger("SensorWrapper.%s.%s.%s" % (self._pack, self._class_name, name))

    def get_user_info(self):
        """Who the sensor acts as."""
        return self._datastore_service.get_user_info()

    def dispatch(self, trigger, payload=None, trace_tag=None):
        """Sends an event; returns when it is stored. One that does not fit its type is logged and left out."""
        context = {"trace_tag": trace_tag} if trace_tag else None
        self._dispatch(trigger, payload, context)

    def dispatch_with_context(self, trigger, payload=None, trace_context=None):
        """As `dispatch`, with a trace context (an object with `id_` and `trace_tag`, or a dict)."""
        self._dispatch(trigger, payload, _context_of(trace_context))

    def _dispatch(self, trigger, payload, context):
        if payload and not isinstance(payload, dict):
            raise ValueError("the payload of a trigger is a dict, not %s" % type(payload).__name__)
        try:
            self._link.dispatch(trigger, payload or {}, context)
        except Refused as error:
            self._logger.warning("The trigger %s is not dispatched: %s", _name_of(trigger), error)

    def list_values(self, local=True, prefix=None, limit=None, offset=0):
        return self._datastore_service.list_values(
            local=local, prefix=prefix, limit=limit or self._page_size, offset=offset
        )

    def get_value(self, name, local=True, scope="system", decrypt=False):
        return self._datastore_service.get_value(name=name, local=local, scope=scope, decrypt=decrypt)

    def set_value(self, name, value, ttl=None, local=True, scope="system", encrypt=False):
        return self._datastore_service.set_value(
            name=name, value=value, ttl=ttl, local=local, scope=scope, encrypt=encrypt
        )

    def delete_value(self, name, local=True, scope="system"):
        return self._datastore_service.delete_value(name=name, local=local, scope=scope)


def _name_of(trigger):
    return trigger.get("ref") if isinstance(trigger, dict) else trigger


def _context_of(context):
    if context is None or isinstance(context, dict):
        return context
    pairs = ((name, getattr(context, name, None)) for name in ("id_", "trace_tag"))
    return {name: value for name, value in pairs if value is not None}
