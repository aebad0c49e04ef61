"""The base class of Python actions."""

import abc

from st2common.runners.utils import PackConfig, get_logger_for_python_runner_action

__all__ = ["Action"]


class Action(abc.ABC):
    """Subclass it and define `run`.

    `config` is the pack's configuration, `action_service` reaches the datastore, `logger` writes to stderr.
    """

    description = None

    def __init__(self, config=None, action_service=None):
        self.config = PackConfig(config or {}, getattr(action_service, "_pack_name", None))
        self.action_service = action_service
        wrapper = getattr(action_service, "_action_wrapper", None)
        log_level = getattr(wrapper, "_log_level", None) or "debug"
        self.logger = get_logger_for_python_runner_action(
            action_name=type(self).__name__, log_level=log_level
        )
        if wrapper is not None and getattr(wrapper, "_pack", None):
            self.config.pack_name = wrapper._pack

    @abc.abstractmethod
    def run(self, **kwargs):
        """Does the work; the value returned is the result."""
