"""Loggers and configuration of Python actions."""

import logging
import os
import sys

import st2common.log  # noqa: F401 - adds the AUDIT level

LOG_FORMAT = "%(name)-12s: %(levelname)-8s %(message)s"

_loggers = {}


def get_logger_for_python_runner_action(action_name, log_level="debug"):
    """The logger `st2.actions.python.<action_name>`, which writes to stderr; one per name."""
    name = "st2.actions.python." + action_name
    logger = _loggers.get(name)
    if logger is None:
        logger = logging.getLogger(name)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        logger.addHandler(handler)
        logger.propagate = False
        _loggers[name] = logger
    level = getattr(logging, str(log_level).upper(), logging.DEBUG)
    logger.setLevel(level)
    return logger


class PackConfig(dict):
    """A pack's configuration; a missing top-level key says which file to look into."""

    pack_name = None

    def __init__(self, values=(), pack_name=None):
        super().__init__(values)
        self.pack_name = pack_name

    def __missing__(self, key):
        pack = self.pack_name or "unknown"
        base = os.environ.get("SQUALL_BASE_PATH", "/opt/stackstorm")
        raise ValueError(
            'Config for pack "%s" is missing key "%s". Set it in "%s/configs/%s.yaml" and load it with '
            '"st2ctl reload --register-configs".' % (pack, key, base, pack)
        )
