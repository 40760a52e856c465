"""What a mail's bytes cost: the reference mail rendered and composed, as a worker does it for each attempt."""

import statistics
import time

from benchmarks.mail import SENDER, TEMPLATE, TEMPLATES, recipient, variables
from benchmarks.plan import POSTROOM, Plan
from benchmarks.section import Figures, Run, Runs, Section
from mailer.addresses import Address
from mailer.catalogue import load_catalogue
from mailer.compose import compose
from mailer.drafting import draft
from mailer.jobs import Payload, Recipient
from mailer.turns import at_once

DATED_MS = 1_764_000_000_000


def rendered_and_composed(turns: int, in_a_turn: int) -> Figures:
    """CPU milliseconds for one, the median of the turns; and how many octets it has."""
    template = load_catalogue(TEMPLATES).get(TEMPLATE)
    author = Address(SENDER)
    given = [(variables(number), (Recipient(Address(recipient(number))),)) for number in range(in_a_turn)]

    def one(data: dict[str, object], recipients: tuple[Recipient, ...]) -> bytes:
        payload = Payload(data=data)
        drafted = draft(
            "0" * 32, payload, template, data, recipients, author=author, dated=DATED_MS, message_id_domain=None
        )
        return compose(at_once(drafted))

    each: list[float] = []
    octets = 0
    for turn in range(turns + 1):
        began = time.process_time()
        octets = sum(len(one(*mail)) for mail in given)
        if turn:  # the first warms up
            each.append((time.process_time() - began) / in_a_turn * 1000)
    return {"cpu_ms": statistics.median(each), "mail_octets": octets / in_a_turn}


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        yield Run(POSTROOM, rendered_and_composed(plan.turns, plan.in_a_turn))


RENDERING = Section("rendering", "The reference mail rendered and composed", _runs)
