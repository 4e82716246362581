"""What the outside sees of a running edge: logs and health."""
