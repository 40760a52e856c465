"""Words of relays that say more than their codes, as patterns over the enhanced code and the text of a reply."""

import re


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_ADDRESS = re.compile(r"<[^<>]*>|(?<![^\s<>])[^\s<>]*@[^\s<>]*")
"""Looked for from the beginning of each word only: a word may be 64 KB long."""


def without_addresses(text: str) -> str:
    """Relays repeat addresses, and whoever chose one must not choose what becomes of others' mail."""
    return _ADDRESS.sub("<>", text)


_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


def legible(text: str) -> str:
    """A line without what terminals obey, databases refuse and no encoding has."""
    return _CONTROLS.sub("?", text)


QUOTA = _words(
    r"\b5\.4\.5\b|\b(daily|monthly|hourly|24.hour)\b.{0,40}\b(quota|limit)|\b(quota|limit)\b.{0,30}\b(daily|per day)\b"
    r"|\b(sending|submission) (quota|limit)\b|\bmessaging limits\b|\bcredits exceeded\b"
    r"|exceeded the max .{0,30}\bper (hour|day)\b"
)
"""The relay's own, for all that we send. A mailbox has one too: see MAILBOX_FULL."""
QUOTA_AT_RECIPIENT = _words(
    r"\b5\.4\.5\b|\A4\.7\.\d+ .*\b(daily|monthly|hourly)\b.{0,40}\b(quota|limit)|\b(sending|submission) (quota|limit)\b"
    r"|\bmessaging limits\b|\bcredits exceeded\b|exceeded the max .{0,30}\bper (hour|day)\b"
)
"""A recipient has daily limits too, which say nothing of the relay's."""
NO_SUCH_RECIPIENT = _words(r"\A5\.1\.(1|2|3|4|6|10)\b|\A5\.2\.[12]\b")
MAILBOX_BUSY = _words(r"\A4\.2\.1\b")
MAILBOX_FULL = _words(r"\b[45]\.2\.2\b|mailbox (is )?full|over ?quota|quota exceeded|insufficient (mailbox )?storage")
THROTTLED = _words(
    r"throttl|rate[ -]?limit|(sending|message|maximum) rate|too (many|much) (messages|mails?|connections|requests)"
    r"|too fast|too frequent|slow down|too many recipients (from|received)"
    r"|(connections?|thread|request|recipient) limit exceeded"
)
GREYLISTED = _words(r"gr[ae]y-?\s?list")
COME_BACK = _words(r"try (again )?(later|in \d|after)|retry (later|in|after|time)|too soon|early retry")
"""At a recipient it mostly is greylisting, by another name."""
RELAYING_DENIED = _words(
    r"relay(ing)?( access)? (is )?(denied|disallowed(?! as)|not (permitted|allowed|authori[sz]ed)|prohibited)"
    r"|(unable|not permitted|not allowed) to relay|do(es)?( not|n't) relay|allowed rcpthosts"
    r"|credentials for relay|not authori[sz]ed to (relay|send)\b(?! (as|from)\b)"
    r"|(authentication|auth) (is )?required|not authenticated|unauthenticated sender|(must|please) authenticate"
    r"|auth first|(client host|helo command) rejected|invalid helo"
)
"""We are not known: whoever the mail is for would be refused."""
SUSPENDED = _words(
    r"\bsending (is |was |has been )?(suspended|paused|disabled)\b"
    r"|\byour (\w+ )?account (is|was|has been) (suspended|disabled|blocked|not (yet )?activated)"
    r"|bad outbound sender|tenant has exceeded|traffic not accepted from this ip|from unregistered domain"
    r"|outgoing blocked"
)
"""We are known, and may not send: said to us, where a recipient's account may be suspended as well."""
SENDER_REFUSED = _words(
    r"sender address rejected|sender verify failed|\bsend as\b|sendas|sender (identity|signature)"
    r"|address is not (verified|allowed|one of your)|not authori[sz]ed to (perform|send (as|from))"
    r"|relaying disallowed as|unconfigured sending domain"
)
"""Many relays say it of each recipient, or once they have the content."""
OWN_TROUBLE = _words(
    r"\b4\.3\.\d|temporary (local|server|lookup)|server busy|space shortage|insufficient system"
    r"|(sender address|client host|helo command) rejected"
)
"""The relay's, or with us: said of a recipient, who has no part in it."""
SURELY_TOO_LARGE = _words(
    r"\A5\.(2\.3|3\.4)\b|(message|mail|size) (is )?too (large|big)\b|exceeds .{0,40}\bsize\b|size .{0,20}exceed"
)
"""Where the code says less than 552 does."""
TOO_LARGE = _words(r"\b5\.(2\.3|3\.4)\b|\bsize\b|too (large|big|long)|storage allocation")
BLOCKLISTED = _words(
    r"block ?list|(?<!may be )black ?list|\bdnsbl\b|\brbl\b|spamhaus|spamcop|barracuda|blocked using"
    r"|(poor|bad|low) (\w+ )?reputation|banned send(er|ing)"
)
NEEDS_SMTPUTF8 = _words(r"\b[45]\.6\.7\b|smtputf8")
TOO_MANY_RECIPIENTS = _words(r"\b[45]\.5\.3\b|too many recipients")

QUEUE_IDS = (
    # Postfix and its like, and most services: some have more than letters and digits, or a whole Message-ID
    _words(r"\bqueued (?:on \S+ )?as <?([^\s<>]{5,200}?)>?[.,;)\]]?(?:\s|\Z)"),
    _words(r"\bid=([0-9A-Za-z-]{6,40})"),  # Exim
    # Sendmail, OpenSMTPD, Exchange
    _words(r"^<?([^\s<>]{6,200})>? (?:Message accepted for delivery|\[InternalId=|Queued mail for delivery)"),
    _words(r"^ok:? ([0-9a-f-]{20,80})$"),  # Amazon SES
    _words(r"^OK +\d+ ([0-9a-z.-]{10,60}) - gsmtp$"),  # Google
)
