"""When Python looks for garbage that reference counts do not find: seldom, and never among what was there at first."""

import gc

YOUNG_OBJECTS = 50_000
"""More than a worker that is full holds at a time: what they refer to in circles is little, and is found soon enough.
Python's own 700 (3.11) cost a worker a ninth of its CPU."""


def settle() -> None:
    """Once everything that stays is there: templates, settings, modules."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
