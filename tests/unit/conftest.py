"""Unit tests come out the same each time: property tests try the same examples, and a slow machine fails none."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
