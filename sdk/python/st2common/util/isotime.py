"""ISO 8601 times as StackStorm writes them."""

import datetime
import re

__all__ = ["format", "parse", "validate"]

_STRICT = re.compile(
    r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{3,6})?(Z|\+00|\+0000|\+00:00)$"
)
_LENIENT = re.compile(
    r"^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?$"
)


def format(dt, usec=True, offset=True):  # noqa: A001 - the name that packs call
    """A time, ISO text or epoch seconds as text in UTC: `2015-01-01T00:00:00.000000+00:00`."""
    if isinstance(dt, str):
        dt = parse(dt, validate_value=False)
    elif isinstance(dt, int):
        dt = datetime.datetime.fromtimestamp(dt, datetime.timezone.utc)
    text = dt.strftime("%Y-%m-%dT%H:%M:%S.%f" if usec else "%Y-%m-%dT%H:%M:%S")
    return text + ("+00:00" if offset else "Z")


def validate(value, raise_exception=True):
    """Whether `value` is a time in UTC in one of the accepted forms."""
    if isinstance(value, datetime.datetime) or (isinstance(value, str) and _STRICT.match(value)):
        return True
    if raise_exception:
        raise ValueError("Datetime value does not match expected format.")
    return False


def parse(value, preserve_original_tz=False, validate_value=True):
    """The aware time that `value` says, in UTC unless its own zone is to be kept."""
    if validate_value:
        validate(value)
    if not isinstance(value, datetime.datetime):
        value = _from_text(value)
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return value if preserve_original_tz else value.astimezone(datetime.timezone.utc)


def _from_text(text):
    found = _LENIENT.match(text.strip())
    if not found:
        raise ValueError("Datetime value does not match expected format.")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    micros = int(((found.group(7) or "") + "000000")[:6])
    return datetime.datetime(year, month, day, hour, minute, second, micros, _zone(found.group(8)))


def _zone(text):
    if not text or text == "Z":
        return datetime.timezone.utc
    digits = text[1:].replace(":", "")
    delta = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return datetime.timezone(-delta if text[0] == "-" else delta)
