"""Errors of the commands, which packs catch."""

__all__ = ["ResourceNotFoundError", "ResourceCommandError"]


class ResourceCommandError(Exception):
    """A command could not be carried out."""


class ResourceNotFoundError(Exception):
    """There is no such resource."""
