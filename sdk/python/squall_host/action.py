"""Finds the action's class in its file and constructs it."""

import importlib.util
import logging
import os
import sys
import traceback

from st2common.runners.base_action import Action
from st2common.runners.utils import get_logger_for_python_runner_action

__all__ = ["load", "import_file", "load_text", "LoadError"]


class LoadError(Exception):
    """The file has no usable action; the text says why, with the traceback of what it raised."""


class ActionWrapper:
    """What the action may ask its service about the run."""

    def __init__(self, pack, class_name, log_level, user):
        self._pack = pack
        self._class_name = class_name
        self._log_level = log_level
        self._user = user


class ActionService:
    """The object given to actions as `action_service`."""

    def __init__(self, wrapper):
        self._action_wrapper = wrapper
        self._datastore_service = None
        self.logger = get_logger_for_python_runner_action(wrapper._class_name, wrapper._log_level)

    @property
    def datastore_service(self):
        if self._datastore_service is None:
            from st2common.services.datastore import ActionDatastoreService

            wrapper = self._action_wrapper
            self._datastore_service = ActionDatastoreService(self.logger, wrapper._pack, wrapper._class_name)
        return self._datastore_service

    def get_user_info(self):
        return self.datastore_service.get_user_info()

    def list_values(self, local=True, prefix=None, limit=None, offset=None):
        return self.datastore_service.list_values(local=local, prefix=prefix, limit=limit, offset=offset)

    def get_value(self, name, local=True, scope="system", decrypt=False):
        return self.datastore_service.get_value(name=name, local=local, scope=scope, decrypt=decrypt)

    def set_value(self, name, value, ttl=None, local=True, scope="system", encrypt=False):
        return self.datastore_service.set_value(
            name=name, value=value, ttl=ttl, local=local, scope=scope, encrypt=encrypt
        )

    def delete_value(self, name, local=True, scope="system"):
        return self.datastore_service.delete_value(name=name, local=local, scope=scope)


def load(request):
    """The action's instance, constructed as its class allows."""
    path = request["file_path"]
    cls = _find_class(path)
    try:
        Action.register(cls)
    except (RuntimeError, TypeError):
        # A base of Action itself; isinstance holds without registration.
        pass
    log_level = (request.get("log_level") or "debug").lower()
    logging.getLogger().setLevel(getattr(logging, log_level.upper(), logging.DEBUG))
    wrapper = ActionWrapper(request["pack"], cls.__name__, log_level, request.get("user"))
    service = ActionService(wrapper)
    config = request.get("config") or {}
    try:
        instance = cls(config=config, action_service=service)
    except TypeError as error:
        if "unexpected keyword argument 'action_service'" not in str(error):
            raise
        instance = cls(config=config)
        instance.action_service = service
        own = getattr(instance, "config", None)
        if hasattr(own, "pack_name"):
            own.pack_name = request["pack"]
    return instance


def _find_class(path):
    module = import_file(path, "action")
    found = [name for name, member in vars(module).items() if _is_action(member, module)]
    if not found:
        raise LoadError(load_text("action", path, 'Found no classes in plugin file "%s" matching requirements.' % path))
    return getattr(module, min(found))


def _is_action(member, module):
    """A class of this module that implements `run`, whatever it inherits."""
    return (
        isinstance(member, type)
        and member.__module__ == module.__name__
        and callable(getattr(member, "run", None))
        and "run" not in getattr(member, "__abstractmethods__", ())
    )


def import_file(path, what):
    """The module in the file; `what` is what it should hold."""
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(load_text(what, path, "it is not a Python file"))
    module = importlib.util.module_from_spec(spec)
    # A file named like a module of the standard library must not take that module's place for other importers.
    taken = name in sys.modules
    if not taken:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        # Our own frames and those of the import system say nothing about the action.
        entry = error.__traceback__
        while entry is not None and not _is_within(entry, path):
            entry = entry.tb_next
        trace = "".join(traceback.format_exception(type(error), error, entry))
        raise LoadError(load_text(what, path, str(error), trace, type(error).__name__)) from error
    return module


def _is_within(entry, path):
    return os.path.abspath(entry.tb_frame.f_code.co_filename) == os.path.abspath(path)


def load_text(what, path, reason, trace="", kind=None):
    """Why the file can't be used."""
    head = (
        'Failed to load %s class from file "%s" (%s file most likely doesn\'t exist or contains invalid '
        "syntax): %s" % (what, path, what, reason)
    )
    return "%s%s%s\n" % (trace, kind + ": " if kind else "", head)
