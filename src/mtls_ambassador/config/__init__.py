"""What the user said: the settings, where they came from, and the key material they name."""
