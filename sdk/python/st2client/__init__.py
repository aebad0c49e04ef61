"""The API as Python objects, under the names of StackStorm's client.

A pack that lists `st2client` in its requirements gets that instead: its virtualenv comes first.
"""

__version__ = "3.9.0"
