"""Base classes for the tests of packs."""
