"""Services without a node."""
