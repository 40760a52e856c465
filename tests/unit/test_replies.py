"""What a relay's words mean: its enhanced code, and, where no words say more, the first digit of its code."""

from dataclasses import replace
from itertools import product
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.jobs import Phase, Reply
from worker.relays.answers import MAX_TEXT, Answer, Kind, lost, reply_of
from worker.relays.replies import RULES, Fate, decide, queue_id_of


@pytest.mark.parametrize(
    ("code", "text", "reply"),
    [
        (250, "2.0.0 OK queued as 1A2B", Reply(250, "OK queued as 1A2B", "2.0.0")),
        (250, "OK", Reply(250, "OK")),
        (550, "5.1.1: No such user\n5.1.1: here", Reply(550, "No such user here", "5.1.1")),
        (550, "5.1.1 No such user\n5.1.1 here", Reply(550, "No such user here", "5.1.1")),
        (
            550,
            "5.7.1 See https://mail.example/?p=5.7.1 for more",
            Reply(550, "See https://mail.example/?p=5.7.1 for more", "5.7.1"),
        ),
        (452, "4.2.2 Over quota: 14.2.2 MB", Reply(452, "Over quota: 14.2.2 MB", "4.2.2")),
        (550, "No 5.1.1 at the front", Reply(550, "No 5.1.1 at the front")),
        (550, "3.1.1 is no class", Reply(550, "3.1.1 is no class")),
        (550, "5.1.1234 is too long", Reply(550, "5.1.1234 is too long")),
        (421, "  Too\r\n many\tconnections ", Reply(421, "Too many connections")),
        (None, "", Reply(None, "")),
        (550, "a\ud800b", Reply(550, "a?b")),
        (550, "5.1.1 N\0o \x1b[31msuch\x7f us\x85er", Reply(550, "N?o ?[31msuch? us er", "5.1.1")),
    ],
)
def test_the_enhanced_code_is_set_apart_from_the_words(code, text, reply):
    assert reply_of(code, text) == reply


@given(st.none() | st.integers(200, 599), st.text(st.characters(exclude_categories=[])))
def test_whatever_a_relay_says_is_one_bounded_line_of_valid_text(code, text):
    reply = reply_of(code, text)
    assert len(reply.text) <= MAX_TEXT
    assert "Cc" not in {category(char) for char in reply.text}, "what terminals obey"
    reply.text.encode()


MAILING = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT)


@pytest.mark.parametrize("phase", MAILING)
@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (421, Fate.DEFER),
        (450, Fate.DEFER),
        (452, Fate.DEFER),
        (499, Fate.DEFER),
        (550, Fate.FAIL),
        (554, Fate.FAIL),
        (599, Fate.FAIL),
    ],
)
def test_refused_or_to_be_tried_again_by_the_first_digit(phase, code, fate):
    assert decide(Answer(phase, Kind.REPLY, Reply(code, "because"))).then.fate is fate


@pytest.mark.parametrize("phase", MAILING)
@pytest.mark.parametrize("code", [200, 250, 251, 299])
def test_only_what_is_said_after_the_final_dot_takes_the_mail(phase, code):
    answer = Answer(phase, Kind.REPLY, Reply(code, "fine"))
    assert (answer.is_positive, answer.is_accepted) == (True, phase is Phase.DOT)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", [Kind.DROPPED, Kind.SILENT, Kind.OUT_OF_STEP])
@pytest.mark.parametrize("code", [None, 250, 354, 550])
def test_no_answer_and_none_that_is_one_are_tried_again_and_after_the_dot_a_doubt(phase, kind, code):
    """Whatever code it had."""
    answer = Answer(phase, kind, Reply(code, "what"))
    assert not answer.is_accepted
    if phase is not Phase.FETCH:
        assert decide(answer).then.fate is (Fate.UNKNOWN if phase is Phase.DOT else Fate.DEFER)


DOOR = {Kind.REPLY, Kind.DROPPED, Kind.SILENT, Kind.OUT_OF_STEP}
CAN_OCCUR = {
    Phase.CONNECT: {Kind.NO_NAME, Kind.NAME_SERVER, Kind.UNREACHABLE, Kind.SILENT},
    Phase.BANNER: DOOR,
    Phase.EHLO: DOOR,
    Phase.TLS: DOOR | {Kind.NO_STARTTLS, Kind.CERTIFICATE, Kind.OURS_REFUSED, Kind.HANDSHAKE},
    Phase.AUTH: DOOR | {Kind.NO_AUTH},
    Phase.MAIL: DOOR | {Kind.TOO_LARGE, Kind.NO_SMTPUTF8},
    Phase.RCPT: DOOR,
    Phase.DATA: DOOR,
    Phase.DOT: DOOR,
}
WORDS = (
    "",
    "Daily sending quota exceeded",
    "5.1.1 User unknown",
    "4.2.1 The user has exceeded the daily limit",
    "4.2.2 Mailbox full",
    "5.2.2 Mailbox full",
    "4.7.0 Throttling failure: Maximum sending rate exceeded.",
    "Greylisted",
    "Try again later",
    "5.7.1 Relay access denied",
    "Sending suspended for this account",
    "Blocked using zen.spamhaus.org",
    "5.6.7 SMTPUTF8 required",
    "4.5.3 Too many recipients",
    "Sender address rejected: not owned by user",
    "4.3.0 Temporary lookup failure",
    "5.3.4 Message size exceeds fixed limit",
)


@pytest.mark.parametrize(("phase", "kind"), [(phase, kind) for phase, kinds in CAN_OCCUR.items() for kind in kinds])
def test_whatever_can_occur_has_a_rule(phase, kind):
    """Every code with every kind of words, on a fresh connection and on a used one."""
    codes = range(400, 600) if kind is Kind.REPLY else (None, 250, 354)
    for code, words, reused in product(codes, WORDS, (False, True)):
        answer = Answer(phase, kind, reply_of(code, words), reused)
        then = decide(answer).then
        is_lost = phase is Phase.DOT and kind is not Kind.REPLY
        assert (then.fate is Fate.UNKNOWN) is is_lost, answer
        if is_lost:
            assert (then.elsewhere, then.afresh) == (False, False), answer
        if phase not in MAILING:
            assert (then.fate, then.elsewhere) == (Fate.DEFER, True), "a mail never fails at the door"
        if kind is Kind.REPLY and phase in MAILING:
            assert then.fate is Fate.DEFER or code >= 500, answer


def test_every_row_is_of_use():
    """Each rule is the one that decides, somewhere."""
    answers = (
        Answer(phase, kind, reply_of(code, words), reused)
        for phase, kinds in CAN_OCCUR.items()
        for kind in kinds
        for code, words, reused in product((400, 421, 450, 451, 452, 503, 530, 550, 552), WORDS, (False, True))
    )
    assert {id(rule) for rule in RULES} == {id(decide(answer)) for answer in answers}


@pytest.mark.parametrize(
    ("phase", "said", "row"),
    [
        # As relays really put it
        (Phase.RCPT, "450 4.2.0 <ada@example.com>: Recipient address rejected: Greylisted, see", "greylisted"),
        (Phase.RCPT, "451 4.7.1 Please try again later", "greylisted"),
        (Phase.RCPT, "450 4.7.1 Try again in 300 seconds", "greylisted"),
        (Phase.RCPT, "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited", "throttled"),
        (Phase.RCPT, "450 4.2.1 recipient has exceeded the daily limit", "recipient_not_now"),
        (Phase.RCPT, "550 5.2.1 User has exceeded the hourly limit of incoming mail", "recipient_refused"),
        (Phase.RCPT, "450 The recipient has exceeded the daily limit", "recipient_not_now"),
        (Phase.DATA, "530 5.7.0 Authentication required", "relaying_denied"),
        (Phase.DOT, "554 5.7.1 Relay access denied", "relaying_denied"),
        (Phase.RCPT, "452 4.2.2 The email account that you tried to reach is over quota", "mailbox_full"),
        (Phase.RCPT, "452-4.2.2 The recipient's inbox is out of storage space", "mailbox_full"),
        (Phase.RCPT, "452 4.5.3 Error: too many recipients", "too_many_recipients"),
        (Phase.RCPT, "450 4.1.1 <ada@example.com>: unverified address: Address lookup failed", "recipient_not_now"),
        (Phase.RCPT, "454 4.7.1 <ada@example.com>: Relay access denied", "relay_not_now"),
        (Phase.RCPT, "554 5.7.1 <ada@example.com>: Relay access denied", "relaying_denied"),
        (Phase.RCPT, "550 5.7.1 Unable to relay", "relaying_denied"),
        (Phase.RCPT, "550 relay not permitted", "relaying_denied"),
        (Phase.MAIL, "530 5.7.0 Authentication required", "relaying_denied"),
        (Phase.MAIL, "530 5.7.57 Client not authenticated to send mail", "relaying_denied"),
        (Phase.RCPT, "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org", "blocklisted"),
        (Phase.DOT, "550 5.7.1 Our system has detected that this message is from a low reputation", "blocklisted"),
        (Phase.RCPT, "550 5.1.1 <ada@example.com>: User unknown in virtual mailbox table", "recipient_refused"),
        (Phase.RCPT, "552 5.2.2 Mailbox full", "recipient_refused"),
        (Phase.RCPT, "550 5.1.0 <a@example.com>: Sender address rejected", "sender_refused"),
        (Phase.RCPT, "550 5.1.0 Authentication required", "relaying_denied"),
        (Phase.RCPT, "421 4.2.1 Service not available, closing", "closing"),
        (Phase.DOT, "454 Throttling failure: Maximum sending rate exceeded.", "throttled"),
        (Phase.DOT, "454 Throttling failure: Daily message quota exceeded.", "quota_used_up"),
        (Phase.DOT, "550 5.4.5 Daily user sending limit exceeded.", "quota_used_up"),
        (Phase.DOT, "552 5.3.4 Message size exceeds fixed limit", "too_large"),
        (Phase.DOT, "421 4.3.2 Service shutting down", "closing"),
        (Phase.MAIL, "552 5.3.4 Message size exceeds fixed limit", "too_large"),
        (Phase.MAIL, "553 5.7.1 <a@example.com>: Sender address rejected: not owned by user", "sender_refused"),
        (Phase.MAIL, "421 4.7.0 Too many connections from your address", "throttled"),
        (Phase.MAIL, "452 4.3.1 Insufficient system storage", "sender_not_now"),
        # Postfix, which says most of it of each recipient (smtpd_delay_reject)
        (Phase.RCPT, "553 5.7.1 <a@example.com>: Sender address rejected: not owned by user app", "sender_refused"),
        (Phase.RCPT, "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied", "relaying_denied"),
        (Phase.RCPT, "504 5.5.2 <app>: Helo command rejected: need fully-qualified hostname", "relaying_denied"),
        (Phase.RCPT, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", "relay_not_now"),
        (Phase.RCPT, "450 4.1.8 <a@example.com>: Sender address rejected: Domain not found", "relay_not_now"),
        (Phase.RCPT, "451 4.3.0 <ada@example.com>: Temporary lookup failure", "relay_not_now"),
        (Phase.RCPT, "452 4.3.1 Insufficient system storage", "relay_not_now"),
        (Phase.RCPT, "452 4.2.2 <ada@example.com>: Recipient address rejected: Mailbox full", "mailbox_full"),
        (Phase.MAIL, "450 4.7.1 Error: too much mail from 192.0.2.1", "throttled"),
        (Phase.RCPT, "450 4.7.1 Error: too many recipients from 192.0.2.1", "throttled"),
        (Phase.DOT, "451 4.3.0 Error: queue file write error", "content_not_now"),
        (Phase.DOT, "550 5.7.1 Command rejected", "content_refused"),
        (Phase.RCPT, "450 4.7.1 Sending quota exceeded, try again tomorrow", "quota_used_up"),
        # Exim, and what is built on it
        (Phase.RCPT, "550 Administrative prohibition", "recipient_refused"),
        (Phase.RCPT, "550 Sender verify failed", "sender_refused"),
        (Phase.RCPT, "451 Temporary local problem - please try later", "relay_not_now"),
        (Phase.RCPT, "452 space shortage, please try later", "relay_not_now"),
        (Phase.RCPT, "452 too many recipients", "too_many_recipients"),
        (Phase.MAIL, "421 Too much load; please try again later.", "closing"),
        (Phase.MAIL, "552 Message size exceeds maximum permitted", "too_large"),
        (Phase.DOT, "451 Message currently under greylist", "greylisted"),
        (Phase.RCPT, "550 Domain a.example has exceeded the max defers and failures per hour (5/5)", "quota_used_up"),
        (Phase.RCPT, "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", "relaying_denied"),
        (Phase.RCPT, "550 The account or domain may not exist, they may be blacklisted", "recipient_refused"),
        # Exchange
        (Phase.RCPT, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "relaying_denied"),
        (Phase.RCPT, "550 5.7.64 TenantAttribution; Relay Access Denied", "relaying_denied"),
        (Phase.RCPT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", "recipient_refused"),
        (Phase.RCPT, "451 4.7.500 Server busy. Please try again later from [192.0.2.1].", "relay_not_now"),
        (Phase.RCPT, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "blocklisted"),
        (Phase.RCPT, "450 4.2.1 The recipient has exceeded their limit of messages per hour", "recipient_not_now"),
        (Phase.DOT, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "sender_refused"),
        (Phase.DOT, "554 5.2.252 SendAsDenied; a@example.com not allowed to send as b@example.com", "sender_refused"),
        (Phase.DOT, "432 4.3.2 Concurrent connections limit exceeded.", "throttled"),
        (Phase.DOT, "554 5.2.0 Submission quota exceeded", "quota_used_up"),
        (Phase.DOT, "550 5.1.8 Access denied, bad outbound sender AS(42004)", "account_suspended"),
        (Phase.DOT, "550 5.7.705 Access denied, tenant has exceeded threshold.", "account_suspended"),
        (Phase.DOT, "550 5.7.708 Access denied, traffic not accepted from this IP.", "account_suspended"),
        (Phase.RCPT, "550 5.4.1 Recipient address rejected: Access denied.", "recipient_refused"),
        # Gmail and its relay
        (Phase.RCPT, "550 5.7.1 Invalid credentials for relay [192.0.2.1].", "relaying_denied"),
        (Phase.RCPT, "550 5.7.0 Mail relay denied [192.0.2.1].", "relaying_denied"),
        (Phase.RCPT, "550 5.4.5 Daily SMTP relay limit exceeded for user.", "quota_used_up"),
        (Phase.RCPT, "450 4.2.1 The user you are trying to contact is receiving mail too quickly", "recipient_not_now"),
        (Phase.RCPT, "452 4.5.3 Your message has too many recipients. Google's sending limits:", "too_many_recipients"),
        (Phase.DOT, "421 4.7.28 Our system has detected an unusual rate of unsolicited mail", "closing"),
        (Phase.DOT, "550 5.7.26 This mail is unauthenticated, which poses a security risk", "content_refused"),
        (Phase.DOT, "552 5.7.0 This message was blocked because its content presents a risk", "content_refused"),
        (Phase.DOT, "552 5.3.4 Your message exceeded Google's message size limits", "too_large"),
        # Amazon SES
        (Phase.MAIL, "530 Authentication required", "relaying_denied"),
        (Phase.DOT, "554 Message rejected: Email address is not verified.", "sender_refused"),
        (Phase.DOT, "554 Access denied: User a is not authorized to perform ses:SendRawEmail", "sender_refused"),
        (Phase.DOT, "554 Message rejected: Address blacklisted.", "blocklisted"),
        (Phase.DOT, "554 Transaction failed: Duplicate header 'Subject'.", "content_refused"),
        (Phase.DOT, "554 Message rejected: Sending suspended for this account.", "account_suspended"),
        (Phase.DOT, "554 Message rejected: Sending paused for this account. For more information", "account_suspended"),
        (Phase.DOT, "552 Message is too long.", "too_large"),
        (Phase.DOT, "550 5.3.4 Message too big for system", "too_large"),
        (Phase.DOT, "554 5.3.4 Message size exceeds fixed maximum message size", "too_large"),
        (Phase.DOT, "550 Message too large", "too_large"),
        (Phase.DATA, "523 the message exceeds the maximum size of 10 MB", "too_large"),
        (Phase.DOT, "550 5.6.0 A line is too long", "content_refused"),
        (Phase.DOT, "554 5.7.1 Attachment of this type and size is not wanted", "content_refused"),
        (Phase.DOT, "454 Temporary service failure", "content_not_now"),
        # SendGrid
        (Phase.MAIL, "550 Unauthenticated senders not allowed", "relaying_denied"),
        (Phase.AUTH, "451 Authentication failed: Maximum credits exceeded", "quota_used_up"),
        (Phase.AUTH, "451 Authentication failed: Could not authenticate", "not_now_at_auth"),
        (Phase.RCPT, "452 Too many recipients received this hour", "throttled"),
        (Phase.DOT, "451 You have exceeded your messaging limits", "quota_used_up"),
        (Phase.DOT, "550 The from address does not match a verified Sender Identity.", "sender_refused"),
        # Mailgun
        (Phase.RCPT, "550 5.7.1 Relaying denied", "relaying_denied"),
        (Phase.RCPT, "451 4.7.1 rate limit exceeded", "throttled"),
        (Phase.DOT, "420 4.7.1 Domain a.example is not allowed to send: recipient limit exceeded", "throttled"),
        # Zoho, Fastmail, GMX, SparkPost, Brevo, SMTP2GO
        (Phase.DOT, "553 5.7.1 Relaying disallowed as a@example.com", "sender_refused"),
        (Phase.DOT, "554 5.1.8 Email Outgoing Blocked", "account_suspended"),
        (Phase.DOT, "551 5.7.1 Not authorised to send from this header address", "sender_refused"),
        (
            Phase.DOT,
            "550 mailbox unavailable Sender address is not allowed.",
            "sender_refused",
        ),
        (Phase.DOT, "550 5.7.1 Unconfigured Sending Domain <a.example>", "sender_refused"),
        (Phase.MAIL, "502 5.7.0 Your SMTP account is not yet activated.", "account_suspended"),
        (Phase.MAIL, "552 Your account has been suspended. Please contact us to reactivate", "account_suspended"),
        # Others
        (Phase.RCPT, "550 This account has been suspended", "recipient_refused"),
        (Phase.RCPT, "551 we do not relay", "relaying_denied"),
        (Phase.RCPT, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "relaying_denied"),
        (Phase.RCPT, "502 5.7.0 Please authenticate first", "relaying_denied"),
        (Phase.RCPT, "451 4.7.1 Greylisting in action, please come back in 00:04:59", "greylisted"),
        (Phase.RCPT, "551 User not local; please try <bob@example.com>", "recipient_refused"),
    ],
)
def test_what_relays_say_is_understood(phase, said, row):
    code, text = int(said[:3]), said[4:]
    assert decide(Answer(phase, Kind.REPLY, reply_of(code, text))).row == row


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ("503 AUTH first (#5.5.1)", "relaying_denied"),
        ("503 5.5.4 Bad sequence: authentication required", "relaying_denied"),
        ("503 5.5.1 MAIL first", "out_of_step"),
        ("503 5.5.1 Error: nested MAIL command", "out_of_step"),
        ("250 AUTH first", "out_of_step"),
    ],
)
def test_a_relay_that_wants_a_password_in_the_words_of_a_bad_sequence_is_not_out_of_step(said, row):
    code = int(said[:3])
    answer = lost(Phase.MAIL, Kind.OUT_OF_STEP, f"Out of step: {said}", code).answer
    assert decide(answer).row == row
    assert decide(replace(answer, reused=True)).row == "stale_connection"


@pytest.mark.parametrize(
    ("text", "queue_id"),
    [
        ("2.0.0 Ok: queued as 4fXyz12345", "4fXyz12345"),
        ("OK id=1rAbCd-000123-4X", "1rAbCd-000123-4X"),
        ("2.0.0 5f1a2b3c4d Message accepted for delivery", "5f1a2b3c4d"),
        ("2.0.0 4AB1234567890 Message accepted for delivery", "4AB1234567890"),
        ("Ok 0102018f2c3d4e5f-1a2b3c4d-1234-5678-9abc-000000", "0102018f2c3d4e5f-1a2b3c4d-1234-5678-9abc-000000"),
        ("2.0.0: 5f1a2b3c Message accepted for delivery", "5f1a2b3c"),
        ("Ok: queued as Xg2Kzxq-RiqxVDsbtW2v6Q", "Xg2Kzxq-RiqxVDsbtW2v6Q"),
        ("Ok: queued as ZG-xKq5HQT_8l7_AbCdEfg", "ZG-xKq5HQT_8l7_AbCdEfg"),
        ("OK queued as 4e5c1111-2222-3333-4444-555566667777", "4e5c1111-2222-3333-4444-555566667777"),
        ("2.0.0 OK: queued as <2026113.42@relay.example>", "2026113.42@relay.example"),
        ("2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4cXyz1234", "4cXyz1234"),
        ("2.6.0 <abc@example.com> [InternalId=123, Hostname=x] Queued mail for delivery", "abc@example.com"),
        (f"2.6.0 <{'a' * 60}@{'b' * 40}.example> [InternalId=1] Queued mail", f"{'a' * 60}@{'b' * 40}.example"),
        ("2.6.0 <abc@example.com> Queued mail for delivery", "abc@example.com"),
        ("2.0.0 OK  1621023456 f12sm1234567wrr.61 - gsmtp", "f12sm1234567wrr.61"),
        ("Great success", None),
        ("Queued as 4fXyz12345.", "4fXyz12345"),
        ("Ok: queued as nhIMmON9SFOP_0ii-t2A", "nhIMmON9SFOP_0ii-t2A"),
        ("OK queued as a08b7f37-ed61-423a-ba75-38ed2fd4b54c", "a08b7f37-ed61-423a-ba75-38ed2fd4b54c"),
        ("2.0.0 OK: queued as <202301011200.123@smtp.example>", "202301011200.123@smtp.example"),
        ("2.0.0 Ok: queued on mx.example as 1430081058-6ltgNF", "1430081058-6ltgNF"),
        ("2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4B1C52E.", "4B1C52E"),
        ("2.0.0 OK", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_relays_own_name_for_a_mail_is_found_where_it_is_told(text, queue_id):
    assert queue_id_of(reply_of(250, text)) == queue_id


@pytest.mark.parametrize(
    "word", ["daily-limit", "blacklist", "spamhaus", "greylist", "try.later", "relay-denied", "throttle"]
)
@pytest.mark.parametrize("reply", ["550 5.1.1 <{}@mallory.example>: User unknown", "550 {}@mallory.example unknown"])
def test_an_address_does_not_choose_what_becomes_of_others_mail(word: str, reply: str) -> None:
    code, _, text = reply.format(word).partition(" ")
    assert decide(Answer(Phase.RCPT, Kind.REPLY, reply_of(int(code), text))).row == "recipient_refused"
    assert decide(Answer(Phase.RCPT, Kind.REPLY, reply_of(450, f"4.2.0 <{word}@mallory.example> later"))).row == (
        "recipient_not_now"
    )


@pytest.mark.parametrize("said", ["x" * 64_000, "<" * 64_000, "x@" * 32_000, "x " * 32_000], ids=lambda said: said[:2])
def test_a_relay_that_says_one_long_word_is_understood_at_once(said: str) -> None:
    """Not within hours."""
    assert decide(Answer(Phase.RCPT, Kind.REPLY, reply_of(550, said))).row == "recipient_refused"
