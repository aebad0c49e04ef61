"""Times with zones."""

import datetime

from st2common.util import isotime

__all__ = ["get_datetime_utc_now", "add_utc_tz", "convert_to_utc", "parse", "append_milliseconds_to_time"]


def get_datetime_utc_now():
    """Now, aware, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def add_utc_tz(dt):
    """`dt` marked as UTC; an aware one must be in UTC already."""
    if dt.tzinfo is not None and dt.utcoffset() != datetime.timedelta(0):
        raise ValueError("the time is not in UTC")
    return dt.replace(tzinfo=datetime.timezone.utc)


def convert_to_utc(dt):
    """The same moment in UTC; a naive time is taken as UTC."""
    if dt.tzinfo is None:
        return add_utc_tz(dt)
    return dt.astimezone(datetime.timezone.utc)


def parse(value):
    """An ISO 8601 text as an aware time in UTC."""
    return isotime.parse(value, validate_value=False)


def append_milliseconds_to_time(date, millis):
    """`date` moved by `millis` milliseconds."""
    return date + datetime.timedelta(milliseconds=millis)
