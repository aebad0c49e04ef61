"""What packs import of StackStorm's common library."""

__version__ = "3.9.0"
