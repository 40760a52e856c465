"""Hypothesis judges what is true, not how fast this machine is at the moment."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
