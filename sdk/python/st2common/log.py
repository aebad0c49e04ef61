"""Standard logging with the AUDIT level, and logger names below `st2.`."""

import logging
from logging import *  # noqa: F401,F403 - packs use this module in place of logging

AUDIT = 60
logging.AUDIT = AUDIT
logging.addLevelName(AUDIT, "AUDIT")


def _audit(self, msg, *args, **kwargs):
    if self.isEnabledFor(AUDIT):
        self._log(AUDIT, msg, args, **kwargs)


logging.Logger.audit = _audit


def getLogger(name=None):  # noqa: N802 - the name of the function it stands in for
    """The logger `st2.<name>`."""
    if not name:
        return logging.getLogger("st2")
    return logging.getLogger(name if name.startswith("st2.") else "st2." + name)


def setup(*_args, **_kwargs):
    """The host has set logging up already."""
