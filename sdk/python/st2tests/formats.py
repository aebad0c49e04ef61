"""Formats of aliases: which commands they match, and what they take from them."""

import json
import re
from typing import Any, Dict, List, Optional, Tuple

__all__ = ["Mismatch", "extract"]

_KEY = r"\s*(\S+?)\s*"
_DEFAULT = r"(\"\"|''|\"[^\"]*\"|'[^']*'|\{.*?\}|.*?)"
_OPTIONAL = re.compile(r"(\s*)\{\{\s*([^\s=}]+?)\s*=\s*" + _DEFAULT + r"\s*\}\}", re.DOTALL)
_REQUIRED = re.compile(r"(\s*)\{\{" + _KEY + r"\}\}", re.DOTALL)
_PAIR = r"(\S+?)=(\"\"|''|\"[^\"]*\"|'[^']*'|\{[^}]*\}|\S+)"
_PAIRS = re.compile(r"(?:(?:^|\s+)" + _PAIR + r")+\s*$", re.DOTALL)
_VALUE = r"""["']?(?P<%s>(?:(?<=').+?(?=')|(?<=").+?(?=")|{.+?}|.+?))["']?"""
_ANCHORS = re.compile(r"(?<!\\)(?:\\\\)*(?:\[(?:\\.|[^\]\\])*\]|(\^|\$|\\A|\\Z))")


class Mismatch(Exception):
    """The command doesn't match the format."""


def extract(format_string: str, command: str) -> Dict[str, Any]:
    """The parameters that the command gives, defaults included."""
    pattern, defaults = _pattern(format_string)
    rest, pairs = _cut_pairs(command)
    found = re.search(pattern, " %s " % rest, re.DOTALL)
    if found is None:
        raise Mismatch('Command "%s" doesn\'t match format string "%s"' % (command, format_string))
    values = found.groupdict()
    for name, default in defaults.items():
        if not values.get(name):
            values[name] = default
    values.update(pairs)
    if format_string and not rest.strip() and not any(values.values()):
        raise Mismatch("No value supplied and no default value found.")
    return values


def _pattern(format_string: str) -> Tuple[str, Dict[str, str]]:
    defaults: Dict[str, str] = {}

    def optional(found: Any) -> str:
        blank, name, default = found.groups()
        defaults[name] = _unquoted(default)
        return "(?:%s%s)?" % (blank, _VALUE % name)

    def required(found: Any) -> str:
        return found.group(1) + _VALUE % found.group(2)

    pattern = _REQUIRED.sub(required, _OPTIONAL.sub(optional, format_string))
    anchors = [found.group(1) for found in _ANCHORS.finditer(pattern) if found.group(1)]
    if not any(anchor in ("^", "\\A") for anchor in anchors):
        pattern = r"^\s*" + pattern
    if not any(anchor in ("$", "\\Z") for anchor in anchors):
        pattern += r"\s*$"
    return pattern, defaults


def _cut_pairs(command: str) -> Tuple[str, Dict[str, str]]:
    found = _PAIRS.search(command)
    if found is None:
        return command, {}
    run = found.group(0)
    pairs = {name: _unquoted(value) for name, value in re.findall(r"(?:^|\s)" + _PAIR, run, re.DOTALL)}
    return command.replace(run, ""), pairs


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def strings(formats: List[Any]) -> List[str]:
    """The patterns among the formats of an alias: those that are only shown are left out."""
    found: List[str] = []
    for item in formats:
        if isinstance(item, dict):
            given = item.get("representation") or []
            found.extend([given] if isinstance(given, str) else given)
        else:
            found.append(item)
    return found


def document(text: str) -> Optional[dict]:
    """An alias' file."""
    try:
        import yaml
    except ImportError:
        try:
            return json.loads(text)
        except ValueError:
            raise ImportError("tests of aliases need PyYAML: name it in requirements-tests.txt") from None
    return yaml.safe_load(text)
