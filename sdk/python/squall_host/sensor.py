"""A sensor's process: loads its class, sets it up, runs it, and hears of its triggers.

The request (see `child`) has `file_path`, `pack`, `class_name`, `poll_interval` and `log_level`; everything else comes
over the channel.
"""

import logging
import os
import signal
import sys
import threading
from _thread import allocate_lock, start_new_thread

from squall_host import action, channel
from squall_host.sensor_service import SensorService
from st2common import log
from st2reactor.sensor.base import PollingSensor, Sensor

__all__ = ["run"]

_NOT_SERVED = "Sensor class %s of %s lacks the methods: %s"


def run(request, control):
    """Runs the sensor to its end; returns the exit code."""
    link = channel.Channel(control)
    start = link.handshake()
    _set_up_logging(link, request)
    logger = log.getLogger("SensorWrapper.%s.%s" % (request["pack"], request["class_name"]))
    service = SensorService(link, request["pack"], request["class_name"], logger, start)
    signal.signal(signal.SIGTERM, _on_terminate(link))
    life = _Life(logger)
    try:
        life.sensor = _load(request, service, start.get("config") or {})
        life.sensor.setup()
        life.is_set_up = True
        link.ready()
        start_new_thread(_hear_triggers, (link, life.sensor, logger))
        life.sensor.run()
        # What the interpreter does at its end: other threads of the sensor go on.
        threading._shutdown()
        return life.end(0)
    except SystemExit as stop:
        return life.end(_exit_code(stop))
    except BaseException as error:
        from squall_host import child

        child.print_exception(error)
        return life.end(1)


class _Terminated(SystemExit):
    """The container wants the sensor to end."""


def _on_terminate(link):
    def handle(_number, _frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        link.interrupt(_Terminated(0))

    return handle


def _exit_code(stop):
    from squall_host import child

    return child.exit_code(stop)


class _Life:
    """Sees to it that `cleanup` is called once, and only for what was set up."""

    def __init__(self, logger):
        self._logger = logger
        self.sensor = None
        self.is_set_up = False

    def end(self, code):
        if self.is_set_up:
            self.is_set_up = False
            try:
                self.sensor.cleanup()
            except SystemExit:
                pass
            except Exception:
                self._logger.exception("cleanup failed")
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        return code


class _Handler(logging.Handler):
    """Log records go to the node's log over the channel."""

    def __init__(self, link):
        super().__init__()
        self._link = link
        self._own = allocate_lock()

    def createLock(self):  # noqa: N802 - logging's name
        # The channel has its own; logging's would be patched by green threads.
        self.lock = None

    def handle(self, record):
        # Python 3.13's takes the lock without asking whether there is one.
        kept = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return kept

    def emit(self, record):
        try:
            self._link.log(record.levelname, record.name, self.format(record))
        except Exception:
            self.handleError(record)


def _set_up_logging(link, request):
    root = logging.getLogger()
    root.handlers[:] = [_Handler(link)]
    root.setLevel(logging.INFO)
    level = getattr(logging, str(request.get("log_level") or "DEBUG").upper(), logging.DEBUG)
    logging.getLogger("st2").setLevel(level)


def _load(request, service, config):
    path = request["file_path"]
    try:
        module = action.import_file(path, "sensor")
        cls = getattr(module, request["class_name"], None)
        if cls is None:
            raise action.LoadError(action.load_text("sensor", path, "it has no class %s" % request["class_name"]))
        _check_methods(cls, path)
    except action.LoadError as error:
        sys.stderr.write(str(error))
        sys.stderr.flush()
        raise SystemExit(1) from None
    arguments = {"sensor_service": service, "config": config}
    interval = request.get("poll_interval")
    if interval and isinstance(cls, type) and issubclass(cls, PollingSensor):
        arguments["poll_interval"] = interval
    return cls(**arguments)


def _check_methods(cls, path):
    """A sensor need not subclass the base, but has to have its methods."""
    wanted = set(Sensor.__abstractmethods__)
    if isinstance(cls, type) and issubclass(cls, PollingSensor):
        wanted = set(PollingSensor.__abstractmethods__)
    abstract = getattr(cls, "__abstractmethods__", ())
    missing = sorted(name for name in wanted if name in abstract or not callable(getattr(cls, name, None)))
    if missing:
        text = _NOT_SERVED % (cls.__name__, os.path.basename(path), ", ".join(missing))
        raise action.LoadError(action.load_text("sensor", path, text))


def _hear_triggers(link, sensor, logger):
    """Calls the sensor for each change of its triggers, one after the other."""
    handlers = {"create": "add_trigger", "update": "update_trigger", "delete": "remove_trigger"}
    while True:
        change, trigger = link.triggers.get()
        try:
            getattr(sensor, handlers[change])(trigger)
        except BaseException:
            logger.exception("%s of %s failed", handlers.get(change, change), trigger.get("ref"))
