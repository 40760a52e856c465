"""The fault matrix: what each answer of a relay means for the mail, for the relay and for the next attempt. Data, and a
pure function over it; docs/faults.md is generated from it.

The order matters: the first rule that fits decides.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from mailer.jobs import Phase, Reply
from worker.relays import texts
from worker.relays.answers import Answer, Kind
from worker.relays.effects import Effect, Pace


class Fate(StrEnum):
    """Of the mail, where no other relay is asked."""

    DEFER = "defer"
    FAIL = "fail"
    UNKNOWN = "unknown"  # the relay may have it: the policy decides


class Wait(StrEnum):
    """Before the next attempt."""

    BACKOFF = "backoff"
    GREYLIST = "greylist"  # after about 1, 6 and 16 minutes, at that relay first
    SLOW = "slow"  # half an hour and more


@dataclass(frozen=True, slots=True)
class Action:
    """`elsewhere`: the next relay is asked in the same attempt. `afresh`: first once more at once on a fresh
    connection, which is not counted. `alert`: an operator has to do something."""

    fate: Fate
    elsewhere: bool = False
    afresh: bool = False
    effect: Effect = Effect.NONE
    pace: Pace = Pace.KEEP
    wait: Wait = Wait.BACKOFF
    alert: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`codes`: how they begin; `text`: in the enhanced code and the words."""

    row: str
    phases: frozenset[Phase]
    kinds: frozenset[Kind]
    then: Action
    codes: tuple[str, ...] = ()
    text: re.Pattern[str] | None = None
    reused: bool = False

    def fits(self, answer: Answer, said: str) -> bool:
        if answer.phase not in self.phases or answer.kind not in self.kinds or (self.reused and not answer.reused):
            return False
        if self.codes and not str(answer.reply.code or "").startswith(self.codes):
            return False
        return self.text is None or self.text.search(said) is not None


def _defer(wait: Wait = Wait.BACKOFF, *, afresh: bool = False) -> Action:
    return Action(Fate.DEFER, wait=wait, afresh=afresh)


def _next(
    effect: Effect = Effect.NONE,
    pace: Pace = Pace.KEEP,
    *,
    fate: Fate = Fate.DEFER,
    afresh: bool = False,
    alert: bool = False,
) -> Action:
    """The next relay; where there is none, its fate."""
    return Action(fate, elsewhere=True, afresh=afresh, effect=effect, pace=pace, alert=alert)


_FAIL = Action(Fate.FAIL)
_NEXT_OR_FAIL = _next(fate=Fate.FAIL)
_QUOTA, _QUOTA_CODES = _next(Effect.QUOTA, alert=True), ("4", "550", "552", "554")

_REPLY = frozenset({Kind.REPLY})
_NO_ANSWER = frozenset({Kind.DROPPED, Kind.SILENT})
_NO_SENSE = frozenset({Kind.OUT_OF_STEP})
_UNREACHED = frozenset({Kind.NAME_SERVER, Kind.UNREACHABLE}) | _NO_ANSWER | _NO_SENSE
_NO_HANDSHAKE = _REPLY | _NO_ANSWER | _NO_SENSE | {Kind.HANDSHAKE}
_NOT_AS_REQUIRED = frozenset({Kind.NO_STARTTLS, Kind.CERTIFICATE, Kind.OURS_REFUSED})

_DOOR = frozenset({Phase.CONNECT, Phase.BANNER, Phase.EHLO})
_TLS, _AUTH = frozenset({Phase.TLS}), frozenset({Phase.AUTH})
_MAIL, _RCPT, _DATA, _DOT = (frozenset({phase}) for phase in (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT))
_ENVELOPE, _CONTENT = _MAIL | _RCPT, _DATA | _DOT
_BEFORE_THE_DOT, _MAILING = _ENVELOPE | _DATA, _ENVELOPE | _CONTENT

RULES: tuple[Rule, ...] = (
    # Before the relay talks of mail
    Rule("name_does_not_exist", _DOOR, frozenset({Kind.NO_NAME}), _next(Effect.OPEN, alert=True)),
    Rule("no_connection", _DOOR, _UNREACHED, _next(Effect.COUNT)),
    Rule("busy_at_the_door", _DOOR, _REPLY, _next(Effect.COUNT, Pace.HALVE), codes=("421",)),
    Rule("not_now_at_the_door", _DOOR, _REPLY, _next(Effect.COUNT), codes=("4",)),
    Rule("turned_away_at_the_door", _DOOR, _REPLY, _next(Effect.OPEN, alert=True)),
    Rule("tls_not_as_required", _TLS, _NOT_AS_REQUIRED, _next(Effect.CERTIFICATE, alert=True)),
    Rule("starttls_refused", _TLS, _REPLY, _next(Effect.CERTIFICATE, alert=True), codes=("5",)),
    Rule("no_handshake", _TLS, _NO_HANDSHAKE, _next(Effect.COUNT)),
    Rule("quota_used_up", _AUTH, _REPLY, _QUOTA, ("4",), texts.QUOTA),
    Rule("not_now_at_auth", _AUTH, _REPLY, _next(Effect.COUNT, Pace.HALVE), codes=("4",)),
    Rule("credentials_refused", _AUTH, _REPLY | {Kind.NO_AUTH}, _next(Effect.CREDENTIALS, alert=True)),
    Rule("dropped_at_auth", _AUTH, frozenset({Kind.DROPPED}), _next(Effect.COUNT_LOGIN)),
    Rule("no_answer_to_auth", _AUTH, frozenset({Kind.SILENT}) | _NO_SENSE, _next(Effect.COUNT)),
    # A connection that carried other mail before may be at fault by its age
    Rule("stale_connection", _MAIL, _REPLY | _NO_ANSWER | _NO_SENSE, _next(afresh=True), reused=True),
    # Nobody's mail gets further there, and each would wait as long to learn it
    Rule("no_answer_to_mail", _MAIL, frozenset({Kind.SILENT}), _next(Effect.COUNT)),
    # What this relay cannot take, another may
    Rule("too_large", _MAIL, frozenset({Kind.TOO_LARGE}), _NEXT_OR_FAIL),
    Rule("no_smtputf8", _MAIL, frozenset({Kind.NO_SMTPUTF8}), _NEXT_OR_FAIL),
    Rule("no_smtputf8", _ENVELOPE, _REPLY, _NEXT_OR_FAIL, ("5",), texts.NEEDS_SMTPUTF8),
    Rule("recipient_refused", _RCPT, _REPLY, _FAIL, ("5",), texts.NO_SUCH_RECIPIENT),
    # The recipient has enough of mail, or the relay of us
    Rule("quota_used_up", _RCPT, _REPLY, _QUOTA, _QUOTA_CODES, texts.QUOTA_AT_RECIPIENT),
    Rule("mailbox_full", _RCPT, _REPLY, _defer(Wait.SLOW), ("4",), texts.MAILBOX_FULL),
    Rule("recipient_not_now", _RCPT, _REPLY, _defer(), ("450", "451", "452"), texts.MAILBOX_BUSY),
    Rule("quota_used_up", _MAIL | _CONTENT, _REPLY, _QUOTA, _QUOTA_CODES, texts.QUOTA),
    Rule("throttled", _MAILING, _REPLY, _next(pace=Pace.HALVE), ("4",), texts.THROTTLED),
    Rule("closing", _MAILING, _REPLY, _next(pace=Pace.HALVE), ("421",)),
    # The relay does not know us, or has enough of us, or others do not want it
    Rule("account_suspended", _MAILING, _REPLY, _next(alert=True), ("5",), texts.SUSPENDED),
    Rule("relaying_denied", _MAILING, _REPLY, _next(alert=True), ("530", "535")),
    Rule("relaying_denied", _MAILING, _REPLY, _next(alert=True), ("5",), texts.RELAYING_DENIED),
    Rule("relaying_denied", _ENVELOPE, _NO_SENSE, _next(alert=True), ("503",), texts.RELAYING_DENIED),
    Rule("blocklisted", _MAILING, _REPLY, _next(fate=Fate.FAIL, alert=True), ("5",), texts.BLOCKLISTED),
    # The sender
    Rule("sender_not_now", _MAIL, _REPLY, _next(pace=Pace.HALVE), ("4",)),
    Rule("too_large", _MAIL, _REPLY, _NEXT_OR_FAIL, ("552",)),
    Rule("sender_refused", _MAIL, _REPLY, _next(fate=Fate.FAIL, alert=True)),
    Rule("sender_refused", _RCPT | _CONTENT, _REPLY, _next(fate=Fate.FAIL, alert=True), ("5",), texts.SENDER_REFUSED),
    # Recipients, each by itself
    Rule("too_many_recipients", _RCPT, _REPLY, _defer(), ("452", "552"), texts.TOO_MANY_RECIPIENTS),
    Rule("greylisted", _RCPT, _REPLY, _defer(Wait.GREYLIST), ("450", "451"), texts.GREYLISTED),
    Rule("relay_not_now", _RCPT, _REPLY, _next(), ("4",), texts.OWN_TROUBLE),
    Rule("greylisted", _RCPT, _REPLY, _defer(Wait.GREYLIST), ("450", "451"), texts.COME_BACK),
    Rule("recipient_not_now", _RCPT, _REPLY, _defer(), ("450", "451", "452")),
    Rule("relay_not_now", _RCPT, _REPLY, _next(), ("4", "503")),
    Rule("recipient_refused", _RCPT, _REPLY, _FAIL),
    # The conversation
    Rule("out_of_step", _BEFORE_THE_DOT, _NO_SENSE, _defer(afresh=True)),
    Rule("broken_off_before_the_dot", _BEFORE_THE_DOT, _NO_ANSWER, _next()),
    Rule("answer_lost", _DOT, _NO_ANSWER | _NO_SENSE, Action(Fate.UNKNOWN)),
    # The content
    Rule("greylisted", _CONTENT, _REPLY, _defer(Wait.GREYLIST), ("450", "451"), texts.GREYLISTED),
    Rule("content_not_now", _CONTENT, _REPLY, _next(), ("4",)),
    Rule("too_large", _CONTENT, _REPLY, _NEXT_OR_FAIL, ("552",), texts.TOO_LARGE),
    Rule("too_large", _CONTENT, _REPLY, _NEXT_OR_FAIL, ("5",), texts.SURELY_TOO_LARGE),
    Rule("content_refused", _CONTENT, _REPLY, _FAIL),
)


def decide(answer: Answer) -> Rule:
    """What follows from an answer that is not an acceptance."""
    said = f"{answer.reply.enhanced or '-'} {texts.without_addresses(answer.reply.text)}"
    for rule in RULES:
        if rule.fits(answer, said):
            return rule
    raise AssertionError(f"no rule for {answer.kind} at {answer.phase}")  # a test asks for every pair there can be


def queue_id_of(reply: Reply) -> str | None:
    """What the relay calls the mail, where its acceptance says so in a way that is known."""
    return next((match[1] for pattern in texts.QUEUE_IDS if (match := pattern.search(reply.text))), None)
