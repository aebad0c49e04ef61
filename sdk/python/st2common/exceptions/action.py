from st2common.exceptions import StackStormBaseException


class ParameterRenderingFailedException(StackStormBaseException):
    """Parameters could not be rendered."""


class InvalidActionReferencedException(StackStormBaseException):
    """There is no such action."""


class InvalidActionParameterException(StackStormBaseException):
    """A parameter does not fit the action."""
