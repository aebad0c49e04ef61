"""Runs Python actions for the node: see `zygote` and `child`."""
