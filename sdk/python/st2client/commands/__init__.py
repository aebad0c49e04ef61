"""What packs import of the commands."""
