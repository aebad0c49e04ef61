"""The old home of :class:`Action`; three of four packs import it from here."""

from st2common.runners.base_action import Action

__all__ = ["Action"]
