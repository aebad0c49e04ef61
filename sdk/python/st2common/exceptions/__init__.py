class StackStormBaseException(Exception):
    """Base of the exceptions that packs know."""
