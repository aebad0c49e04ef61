"""Results as JSON, by the rules that StackStorm's action wrapper follows.

A dict has string keys; integers fit 64 bits; NaN and infinities are null; datetime, date, time, UUID, dataclass, enum and
tuple have a form. Anything else makes the whole value unserialisable, and text takes its place.
"""

import json
import sys

__all__ = ["answer", "dump", "plain", "InvalidStatus", "Unserialisable"]

_SCALARS = (str, bool, type(None))
# Upstream takes 254 levels; the node reads 128 of JSON, with those around the result.
_MAX_DEPTH = 120


class InvalidStatus(Exception):
    """`run` returned a pair whose first member is no status."""


class Unserialisable(TypeError):
    """The value has no JSON form."""


def answer(output):
    """The JSON bytes of `{"result", "status"}` for what `run` returned."""
    status = None
    value = output
    if isinstance(output, tuple) and len(output) == 2:
        status, value = output
        if status is not None and not isinstance(status, bool):
            raise InvalidStatus(
                "Status returned from the action run() method must either be True or False, got: %s\n"
                "A pair that is returned is taken as (status, result): return a list if you mean a value.\n"
                % (status,)
            )
    try:
        return dump({"result": plain(value), "status": status})
    except (Unserialisable, UnicodeEncodeError):
        pass
    if status is None:
        # What upstream's runner makes of the text that its wrapper prints then: the rest of a dict's repr.
        value = "%r, 'status': None}" % (value,)
    else:
        value = str(value)
    value = value.encode("utf-8", "replace").decode("utf-8")
    return dump({"result": value, "status": status})


def dump(document):
    """JSON in UTF-8, as short as it gets."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def plain(value, depth=0):
    """`value` built of what JSON has."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        return _integer(value)
    if kind is float:
        return _number(value)
    if depth > _MAX_DEPTH:
        raise Unserialisable("too deep")
    if kind is dict:
        return _object(value, depth)
    if kind is list or kind is tuple:
        return [plain(item, depth + 1) for item in value]
    return _other(value, depth)


def _integer(value):
    if not -(1 << 63) <= value < 1 << 64:
        raise Unserialisable("the integer exceeds 64 bits")
    return int(value)


def _number(value):
    return value if value - value == 0.0 else None


def _object(value, depth):
    result = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise Unserialisable("dict keys must be strings")
        result[str(key)] = plain(item, depth + 1)
    return result


def _other(value, depth):
    # Enums first: some are also integers or strings. Modules that were never imported have no instances.
    if _is_a(value, "enum", "Enum"):
        return plain(value.value, depth + 1)
    if _is_a(value, "datetime", "date", "time"):
        return value.isoformat()
    if _is_a(value, "uuid", "UUID"):
        return str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, dict):
        return _object(value, depth)
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if hasattr(type(value), "__dataclass_fields__"):
        fields = type(value).__dataclass_fields__
        return {name: plain(getattr(value, name), depth + 1) for name in fields if not name.startswith("_")}
    raise Unserialisable("Type is not JSON serializable: %s" % type(value).__name__)


def _is_a(value, module, *names):
    found = sys.modules.get(module)
    return found is not None and isinstance(value, tuple(getattr(found, name) for name in names))
