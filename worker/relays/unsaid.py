"""Keeps passwords out of what a relay is quoted with: some relays repeat what they did not understand. Pure."""

import base64
import itertools

SHORTEST_PART = 6
"""Characters of a secret in a row that are struck out, whole or in part, whatever their case."""


def without_secrets(text: str, username: str | None, password: str | None) -> str:
    """All forms in which a password is said (RFC 4616, and AUTH LOGIN), and parts of them, as `***`."""
    if username is None or password is None:
        return text
    encoded = [base64.b64encode(said.encode()).decode() for said in (f"\0{username}\0{password}", password)]
    for whole in (*encoded, password):
        text = text.replace(whole, "***")
    parts = {part for form in (*encoded, password) for part in _parts(_lower(form))}
    lower = _lower(text)
    struck = [False] * len(text)
    for start in range(len(lower) - SHORTEST_PART + 1):
        if lower[start : start + SHORTEST_PART] in parts:
            struck[start : start + SHORTEST_PART] = [True] * SHORTEST_PART
    runs = itertools.groupby(zip(text, struck, strict=True), key=lambda each: each[1])
    return "".join("***" if out else "".join(char for char, _ in run) for out, run in runs)


def _lower(text: str) -> str:
    """As long as the text."""
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _parts(form: str) -> set[str]:
    return {form[start : start + SHORTEST_PART] for start in range(len(form) - SHORTEST_PART + 1)}
