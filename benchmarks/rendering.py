"""What a mail's bytes cost: the reference mail rendered and composed, as a worker does it for each attempt."""

import statistics
import time

from benchmarks.mail import SENDER, TEMPLATE, TEMPLATES, recipient, variables
from mailer.addresses import Address
from mailer.catalogue import load_catalogue
from mailer.compose import compose
from mailer.drafting import draft
from mailer.jobs import Payload, Recipient

ROUNDS, MAILS = 15, 400
DATED_MS = 1_764_000_000_000


def render_and_compose() -> dict[str, float]:
    """Milliseconds of CPU for one, the median of ROUNDS; and how many octets it has."""
    template = load_catalogue(TEMPLATES).get(TEMPLATE)
    author = Address(SENDER)
    given = [(variables(number), (Recipient(Address(recipient(number))),)) for number in range(MAILS)]

    def one(data: dict[str, object], recipients: tuple[Recipient, ...]) -> bytes:
        payload = Payload(data=data)
        drafted = draft(
            "0" * 32, payload, template, data, recipients, author=author, dated=DATED_MS, message_id_domain=None
        )
        return compose(drafted)

    each: list[float] = []
    octets = 0
    for turn in range(ROUNDS + 1):
        began = time.process_time()
        octets = sum(len(one(*mail)) for mail in given)
        if turn:  # the first warms up
            each.append((time.process_time() - began) / MAILS * 1000)
    return {"cpu_ms": round(statistics.median(each), 4), "octets": round(octets / MAILS)}


if __name__ == "__main__":
    print(render_and_compose())
