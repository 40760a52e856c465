"""docs/faults.md from the fault matrix."""

# ruff: noqa: E501 - rows of a Markdown table cannot be folded

from mailer.jobs import Phase
from worker.relays import texts
from worker.relays.answers import Kind
from worker.relays.effects import Effect, Pace
from worker.relays.replies import RULES, Action, Fate, Rule, Wait

HEAD = """# Faults

<!-- Generated from the fault matrix (worker/relays/replies.py) by `make docs`. -->

What each answer of a relay, or its silence, means for the mail and for the relay. The first row that fits decides. Its name
is the `row` of an attempt, in `GET /jobs/{id}` and in the log, and that of a relay's newest `trouble` at `GET /relays`. Where a
mail has several recipients, each has the answer that was given for it; the ones that a row defers are tried again, the others
are not.

**Next relay**: the same attempt goes on with the next relay that may have the mail; what stands behind it is what becomes of the
mail where there is none. **Deferred**: back to its queue, by the backoff of its stream, template or job. **Counted**: some
of these, one after another, open the relay's breaker ([relays.md](relays.md)). *Once more afresh*: at once on a new
connection; only what comes of that counts.

Up to the final dot nothing has happened, and no row there can make a second copy. After it only a lost answer is in doubt, and
then no other relay is asked.

| row | where | what | the mail | the relay | alert |
|---|---|---|---|---|---|
"""

KINDS = {
    Kind.NO_NAME: "name does not exist",
    Kind.NAME_SERVER: "name server in trouble",
    Kind.UNREACHABLE: "no connection",
    Kind.DROPPED: "line cut",
    Kind.SILENT: "no answer in time",
    Kind.OUT_OF_STEP: "no answer to what was said",
    Kind.HANDSHAKE: "TLS did not come about",
    Kind.NO_STARTTLS: "STARTTLS not offered",
    Kind.CERTIFICATE: "certificate not valid",
    Kind.OURS_REFUSED: "our certificate not accepted",
    Kind.NO_AUTH: "AUTH PLAIN and LOGIN not offered",
    Kind.TOO_LARGE: "larger than its SIZE",
    Kind.NO_SMTPUTF8: "SMTPUTF8 needed, not offered",
}
SAID = frozenset({Kind.REPLY, Kind.OUT_OF_STEP})
"""Kinds that have words."""
WORDS = {
    texts.QUOTA: "quota or daily limit",
    texts.QUOTA_AT_RECIPIENT: "sending quota, 5.4.5",
    texts.NO_SUCH_RECIPIENT: "5.1.x, 5.2.1, 5.2.2",
    texts.MAILBOX_BUSY: "4.2.1",
    texts.MAILBOX_FULL: "4.2.2, mailbox full",
    texts.THROTTLED: "rate, throttling, too many",
    texts.GREYLISTED: "greylisting",
    texts.COME_BACK: "try later, come back",
    texts.RELAYING_DENIED: "relaying denied, authentication required",
    texts.SUSPENDED: "sending or our account suspended",
    texts.BLOCKLISTED: "blocklist, reputation",
    texts.SENDER_REFUSED: "sender refused, not verified, not allowed",
    texts.OWN_TROUBLE: "4.3.x, trouble of the relay or with us",
    texts.TOO_LARGE: "5.3.4, size, too large",
    texts.SURELY_TOO_LARGE: "5.3.4, message too large, exceeds the size",
    texts.NEEDS_SMTPUTF8: "5.6.7, SMTPUTF8",
    texts.TOO_MANY_RECIPIENTS: "4.5.3, too many recipients",
}
FATES = {Fate.DEFER: "deferred", Fate.FAIL: "failed", Fate.UNKNOWN: "in doubt: `unknown_policy`"}
WAITS = {
    Wait.BACKOFF: "",
    Wait.GREYLIST: " for at least 1, 5, 10 min, at that relay first",
    Wait.SLOW: " for at least 30 min",
}
EFFECTS = {
    Effect.NONE: "",
    Effect.COUNT: "counted",
    Effect.COUNT_LOGIN: "counted; three are refused credentials, with an alert",
    Effect.OPEN: "open",
    Effect.CERTIFICATE: "open (certificate)",
    Effect.CREDENTIALS: "open (credentials)",
    Effect.QUOTA: "open for an hour (quota)",
}


def page() -> str:
    return HEAD + "".join(_row(rule) for rule in RULES)


def _row(rule: Rule) -> str:
    where = ", ".join(phase.upper() for phase in Phase if phase in rule.phases)
    cells = (f"`{rule.row}`", where, _what(rule), _mail(rule.then), _relay(rule.then), "yes" if rule.then.alert else "")
    return f"| {' | '.join(cells)} |\n"


def _what(rule: Rule) -> str:
    unsaid = rule.kinds - ({Kind.REPLY} if rule.text is None else SAID)
    parts = [KINDS[kind] for kind in Kind if kind in unsaid]
    if unsaid != rule.kinds:
        codes = ", ".join(code.ljust(3, "x") for code in rule.codes) or "any other refusal"
        parts.insert(0, codes + (f" with words of: {WORDS[rule.text]}" if rule.text else ""))
    return "; ".join(parts) + (" on a connection that carried other mail before" if rule.reused else "")


def _mail(then: Action) -> str:
    fate = FATES[then.fate] + WAITS[then.wait]
    steps = ["once more afresh"] if then.afresh else []
    steps += ["next relay"] if then.elsewhere else []
    return ", else ".join([*steps, fate])


def _relay(then: Action) -> str:
    parts = [EFFECTS[then.effect], "pace halved" if then.pace is Pace.HALVE else ""]
    return "; ".join(part for part in parts if part)
