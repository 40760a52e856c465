"""What became of a mail for one recipient at one relay: the relay's reply, or the way in which none came. Values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mailer.jobs import Phase, Reply
from worker.relays.texts import legible

MAX_TEXT = 1000
"""Characters kept of what a relay says."""
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3}):?(?:\s+|\Z)")
"""OpenSMTPD put a colon behind it until 6.4."""
ACCEPTED = 2
"""First digit of a positive reply (RFC 5321 4.2.1)."""


class Kind(StrEnum):
    """A reply, or why there is none."""

    REPLY = "reply"
    NO_NAME = "no_name"  # the relay's name does not exist
    NAME_SERVER = "name_server"  # nobody could say whether it does
    UNREACHABLE = "unreachable"  # no TCP connection: refused, no route, no answer
    DROPPED = "dropped"  # the line was cut
    SILENT = "silent"  # no answer in time
    OUT_OF_STEP = "out_of_step"  # an answer that is none to what was said
    HANDSHAKE = "handshake"  # TLS did not come about
    NO_STARTTLS = "no_starttls"  # it is required, and not offered
    CERTIFICATE = "certificate"  # not valid for this relay
    OURS_REFUSED = "ours_refused"  # the relay does not accept our certificate, or wants one
    NO_AUTH = "no_auth"  # neither PLAIN nor LOGIN is offered
    TOO_LARGE = "too_large"  # for the SIZE the relay advertises
    NO_SMTPUTF8 = "no_smtputf8"  # an address needs it, and it is not offered


@dataclass(frozen=True, slots=True)
class Answer:
    """`reused`: heard on a connection that had carried other mail before."""

    phase: Phase
    kind: Kind
    reply: Reply
    reused: bool = False

    @property
    def is_accepted(self) -> bool:
        """The relay has taken the mail on itself."""
        return self.phase is Phase.DOT and self.is_positive

    @property
    def is_positive(self) -> bool:
        return self.kind is Kind.REPLY and (self.reply.code or 0) // 100 == ACCEPTED


@dataclass(frozen=True, slots=True)
class Verdicts:
    """`decisive` tells how it ended and where; `answers` has one for each recipient's email. `clean`: the connection
    can take another mail once it owes no answer."""

    decisive: Answer
    answers: Mapping[str, Answer]
    clean: bool = False

    @property
    def accepted(self) -> Answer | None:
        """The relay has the mail, for somebody at least."""
        return next((answer for answer in self.answers.values() if answer.is_accepted), None)

    @classmethod
    def alike(cls, answer: Answer, emails: tuple[str, ...], *, clean: bool = False) -> "Verdicts":
        """The same for everybody."""
        return cls(answer, dict.fromkeys(emails, answer), clean)


class Lost(Exception):
    """The conversation broke off. Stays within worker.relays: to all others it is an Answer. `shared`: it was another
    mail's."""

    def __init__(self, answer: Answer, *, shared: bool = False) -> None:
        super().__init__(answer.reply.text)
        self.answer = answer
        self.shared = shared


def lost(phase: Phase, kind: Kind, text: str, code: int | None = None) -> Lost:
    return Lost(Answer(phase, kind, reply_of(code, text)))


def reply_of(code: int | None, text: str) -> Reply:
    """A relay's words, its enhanced code (RFC 3463) set apart, on one line and bounded."""
    words = legible(" ".join(text.split()))
    match = _ENHANCED.match(words)
    if match is None:
        return Reply(code, words[:MAX_TEXT])
    enhanced, words = match[1], words[match.end() :]
    if enhanced in words:  # each line of a reply begins with it
        words = re.sub(rf"(?<!\S){re.escape(enhanced)}:? ", "", words)
    return Reply(code, words[:MAX_TEXT], enhanced)
