"""The mix of mails: every stream with every policy for unknown outcomes, with and without fetched data, and inline."""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mailer.jobs import Stream, UnknownPolicy

FETCH = '\n[fetch.order]\nurl = "{{ sources.app }}/orders/{{ number }}"\n'


@dataclass(frozen=True, slots=True)
class Post:
    """A body for POST /jobs, and whom it is for."""

    body: dict[str, Any]
    recipients: tuple[str, ...]


def write_templates(folder: Path) -> None:
    """A template for each stream and policy; those of bulk are made of fetched data."""
    for stream in Stream:
        for policy in UnknownPolicy:
            place = folder / name_of(stream, policy)
            place.mkdir(parents=True)
            fetches = stream is Stream.BULK
            manifest = (
                f'stream = "{stream}"\nunknown_policy = "{policy}"\n\n[fields]\nnumber = {{ type = "integer" }}\n'
            )
            (place / "template.toml").write_text(manifest + (FETCH if fetches else ""))
            (place / "subject.txt").write_text("Number {{ number }}")
            text = "This is number {{ number }}" + (", {{ order.number }}" if fetches else "") + ".\n.\n..\n"
            (place / "body.txt").write_text(text)


def name_of(stream: Stream, policy: UnknownPolicy) -> str:
    return f"{stream}-{policy}"


def posts(count: int, random: Random, *, resend: bool) -> list[Post]:
    policies = [policy for policy in UnknownPolicy if resend or policy is not UnknownPolicy.RESEND]
    return [_post(number, random, policies) for number in range(count)]


def _post(number: int, random: Random, policies: list[UnknownPolicy]) -> Post:
    people = [f"person-{number}@example.com"]
    if random.random() < 0.15:
        people.append(f"second-{number}@example.com")
    body: dict[str, Any] = {"to": people}
    if random.random() < 0.1:
        body |= {"subject": f"Number {number}", "text": f"This is number {number}.\n.\n"}
    else:
        template = name_of(random.choice(list(Stream)), random.choice(policies))
        body |= {"template": template, "data": {"number": number}}
    return Post(body, tuple(people))
