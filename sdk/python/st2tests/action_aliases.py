"""Tests of aliases."""

import glob
import os
from typing import Any, Dict, List, Optional

from st2tests import formats as matching
from st2tests.pack_resource import BasePackResourceTestCase

__all__ = ["BaseActionAliasTestCase"]


class ActionAlias:
    """An alias as its file has it: each key is an attribute."""

    formats: List[Any] = []
    name: Optional[str] = None
    pack: Optional[str] = None
    action_ref: Optional[str] = None
    description: Optional[str] = None
    enabled: bool = True

    def __init__(self, values: Dict[str, Any]) -> None:
        self.__dict__.update(values)
        self.ref = "%s.%s" % (self.pack, self.name)

    def get_format_strings(self) -> List[str]:
        return matching.strings(self.formats)


class BaseActionAliasTestCase(BasePackResourceTestCase):
    """Set `action_alias_name`; `action_alias_db` is that alias of the pack."""

    action_alias_name: Optional[str] = None
    action_alias_db: Any = None

    def setUp(self) -> None:
        super().setUp()
        if not self.action_alias_name:
            raise ValueError('"action_alias_name" class attribute needs to be provided')
        self.action_alias_db = self._get_action_alias_db_by_name(self.action_alias_name)

    def assertCommandMatchesExactlyOneFormatString(  # noqa: N802 - the name that packs call
        self, format_strings: List[str], command: str
    ) -> None:
        matched = [text for text in format_strings if _matches(text, command)]
        if not matched:
            raise AssertionError('Command "%s" didn\'t match any of the provided format strings' % command)
        if len(matched) > 1:
            shown = ", ".join(matched)
            raise AssertionError('Command "%s" matched multiple format strings: %s' % (command, shown))

    def assertExtractedParametersMatch(  # noqa: N802 - the name that packs call
        self, format_string: str, command: str, parameters: Dict[str, Any]
    ) -> None:
        known = self.action_alias_db.get_format_strings()
        if format_string not in known:
            shown = ", ".join(known)
            raise AssertionError('Format string "%s" isn\'t one of this alias: %s' % (format_string, shown))
        try:
            found = matching.extract(format_string, command)
        except matching.Mismatch as error:
            raise AssertionError(str(error)) from None
        if found != parameters:
            raise AssertionError("Extracted parameters %s don't match %s" % (found, parameters))

    def _get_action_alias_db_by_name(self, name: str) -> ActionAlias:
        pack = self._pack_directory()
        for path in sorted(glob.glob(os.path.join(pack, "aliases", "*"))):
            if not path.endswith((".yaml", ".yml", ".json")):
                continue
            with open(path, encoding="utf-8") as file:
                found = matching.document(file.read())
            if found and found.get("name") == name:
                found.setdefault("pack", os.path.basename(pack))
                return ActionAlias(found)
        raise ValueError('Alias with name "%s" not found in pack "%s"' % (name, os.path.basename(pack)))


def _matches(format_string: str, command: str) -> bool:
    try:
        matching.extract(format_string, command)
    except matching.Mismatch:
        return False
    return True
