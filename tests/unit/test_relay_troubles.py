"""Each way in which a relay cannot be used has words of its own, and a fix, whatever little is known of it."""

import itertools
from pathlib import Path

import pytest

from cli.relay_troubles import ROWS, Case, user_of, words
from mailer.jobs import Phase, Reply
from worker.relays.answers import Answer, Kind
from worker.relays.inspection import Cause, Inspection
from worker.relays.presented import Certificate
from worker.relays.relay import Relay, Tls

NOW = 1_800_000_000
PHASES = (Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.TLS, Phase.AUTH)
CERTIFICATE = Certificate(("mail.example",), "Acme {Root}", NOW - 90 * 86400, NOW - 86400)
STARTTLS = Relay("it", "::1", 587, "starttls", "ada", "hunter2", ca_file=Path("ca.pem"), cert_file=Path("own.pem"))
IMPLICIT = Relay("it", "mail.example", 465, "implicit", None, None)


def inspection(cause: Cause | None, speaks: Tls | None, certificate: Certificate | None) -> Inspection:
    return Inspection((), None, None, None, {}, None, certificate, None, None, cause, speaks, {}, ())


@pytest.mark.parametrize("relay", [STARTTLS, IMPLICIT], ids=["starttls", "implicit"])
@pytest.mark.parametrize("certificate", [None, CERTIFICATE], ids=["nothing known", "a certificate"])
def test_there_are_words_for_whatever_happens(relay: Relay, certificate: Certificate | None):
    speaks: tuple[Tls | None, ...] = (None, "implicit", "starttls", "none")
    for phase, kind, cause, tls in itertools.product(PHASES, Kind, (None, *Cause), speaks):
        for code in (None, 421, 535):
            answer = Answer(phase, kind, Reply(code, "{its} words", None))
            what, fix = words(Case(relay, inspection(cause, tls, certificate), answer, NOW))
            assert what
            assert fix
            assert "None" not in f"{what} {fix}"


def test_no_row_is_hidden_by_one_before_it():
    """A row that asks for no more than an earlier one would never be read."""
    asked = [(row.phase, row.kind, row.cause, row.speaks, row.codes) for row in ROWS]
    hidden = [
        asked[later]
        for earlier, later in itertools.combinations(range(len(ROWS)), 2)
        if ROWS[earlier].where.__qualname__.startswith("Row.")
        and all(before in {None, "", after} for before, after in zip(asked[earlier], asked[later], strict=True))
    ]
    assert hidden == []


def test_a_user_name_that_is_the_password_is_not_told():
    assert user_of(STARTTLS) == "ada"
    assert user_of(Relay("it", "mail.example", 587, "starttls", "token", "token")) == "***"
