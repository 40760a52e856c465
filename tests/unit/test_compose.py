"""What a reader of our mail sees is what the author wrote, and nothing anyone wrote becomes a header of its own."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import compat32  # policy.default of 3.11 puts spaces between the encoded words of a name
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.addresses import Address
from mailer.compose import Message, check_header, check_header_text, compose
from mailer.errors import AddressError, HeaderError, RenderingError

ADA = Address("ada@example.com", "Ada Lovelace")
MAIL = Message(
    job_id="01JZ4YQ8W8Z6",
    message_id_domain="mail.acme.example",
    date=datetime(2026, 7, 1, 12, 5, 9, tzinfo=UTC),
    sender=Address("hello@acme.example", "Acme"),
    to=(ADA,),
    subject="Welcome",
    html="<p>Hello</p>",
    text="Hello",
)
ALWAYS = ["Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version"]
CONTROLS = ["\r\n", "\r", "\n", "\0", "\t", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]

HEADER_CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
PIECES = [
    "=?utf-8?q?",
    "=?utf-8?b?",
    "?=",
    "=0A",
    "=",
    "  ",
    " ",
    ",",
    '"',
    "\\",
    "<x@evil.example>",
    "é",
    "漢",
    "😀",
    "(",
    ":",
]
HEADER_TEXT = (
    st.text(HEADER_CHARACTERS)
    | st.lists(st.sampled_from([*PIECES, "word", "x" * 70, "x" * 80])).map("".join)
    | st.text("ab ,.", max_size=300)
)
BODY_PIECES = [
    "\r\n",
    "\r",
    "\n",
    " ",
    "\t",
    ".",
    "From ",
    "=",
    "=_",
    "--=_alternative.01JZ4YQ8W8Z6",
    "x" * 71,
    "é",
    "漢",
    "\0",
]
BODY = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from([*BODY_PIECES, "word "]), max_size=60
).map("".join)
EMAILS = st.sampled_from(
    [
        "ada@example.com",
        '"a b"@example.com',
        '"a,b\\"@"@example.com',
        "x@xn--bcher-kva.example",
        "l" * 64 + "@example.com",
    ]
)
ADDRESS = st.builds(Address, EMAILS, st.none() | HEADER_TEXT.map(lambda name: name.strip() or None))
ADDRESSES = st.lists(ADDRESS, max_size=5).map(tuple)


def read(raw: bytes):
    return message_from_bytes(raw, policy=compat32)


def unfolded(value: str) -> str:
    return value.replace("\r\n", "").lstrip(" ")  # a fold just after the name is no part of the value


def decoded(value: str) -> str:
    return str(make_header(decode_header(unfolded(value))))


def mailboxes(message, name: str) -> tuple[Address, ...]:
    pairs = getaddresses([unfolded(message[name])] if name in message else [])
    return tuple(Address(email, decoded(shown) or None) for shown, email in pairs)


def bodies(message) -> dict[str, str]:
    return {
        part.get_content_subtype(): part.get_payload(decode=True).decode()
        for part in message.walk()
        if not part.is_multipart()
    }


def as_lines(text: str) -> str:
    text = re.sub(r"\r\n|\r|\n", "\r\n", text)
    return text if text.endswith("\r\n") else f"{text}\r\n"


def header_lines(raw: bytes) -> list[bytes]:
    return raw.partition(b"\r\n\r\n")[0].split(b"\r\n")


def assert_fit_for_smtp(raw: bytes, *, ascii_only: bool = True) -> None:
    assert raw.endswith(b"\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert all(line.strip() for line in header_lines(raw))
    assert raw.isascii() or not ascii_only


# What a mail looks like


def test_a_mail_has_its_headers_in_a_settled_order():
    raw = compose(replace(MAIL, cc=(ADA,), reply_to=(ADA,), headers=(("X-Tag", "a"), ("X-Tag", "b"))))
    assert read(raw).keys() == [
        *("Date", "From", "Reply-To", "To", "Cc", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version"),
        *("X-Tag", "X-Tag", "Content-Type"),
    ]


def test_a_whole_mail_byte_for_byte():
    assert compose(MAIL).decode().split("\r\n") == [
        "Date: Wed, 1 Jul 2026 12:05:09 +0000",
        "From: Acme <hello@acme.example>",
        "To: Ada Lovelace <ada@example.com>",
        "Subject: Welcome",
        "Message-ID: <01JZ4YQ8W8Z6@mail.acme.example>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: multipart/alternative;",
        ' boundary="=_alternative.01JZ4YQ8W8Z6"',
        "",
        "--=_alternative.01JZ4YQ8W8Z6",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
        "",
        "Hello",
        "",
        "--=_alternative.01JZ4YQ8W8Z6",
        "Content-Type: text/html; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
        "",
        "<p>Hello</p>",
        "",
        "--=_alternative.01JZ4YQ8W8Z6--",
        "",
    ]


@pytest.mark.parametrize(("html", "text", "subtype"), [(None, "Hello", "plain"), ("<p>Hello</p>", None, "html")])
def test_a_mail_with_one_part_is_not_multipart(html, text, subtype):
    message = read(compose(replace(MAIL, html=html, text=text)))
    assert message.get_content_type() == f"text/{subtype}"
    assert bodies(message) == {subtype: as_lines(html or text)}


def test_a_mail_with_neither_html_nor_text_is_refused():
    with pytest.raises(RenderingError):
        compose(replace(MAIL, html=None, text=None))


def test_a_mail_for_bcc_only_names_nobody():
    assert read(compose(replace(MAIL, to=())))["To"] == "undisclosed-recipients:;"


def test_a_mail_with_cc_only_has_no_to():
    message = read(compose(replace(MAIL, to=(), cc=(ADA,))))
    assert "To" not in message
    assert mailboxes(message, "Cc") == (ADA,)


def test_the_date_is_written_in_utc_whatever_its_zone():
    date = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert read(compose(replace(MAIL, date=date)))["Date"] == "Wed, 31 Dec 2025 22:30:00 +0000"


def test_a_date_without_a_zone_is_refused():
    with pytest.raises(HeaderError):
        compose(replace(MAIL, date=datetime(2026, 1, 1)))  # noqa: DTZ001 - the mistake this test is about


def test_an_empty_subject_stays_an_empty_subject():
    assert read(compose(replace(MAIL, subject="")))["Subject"] == ""


def test_a_long_list_of_recipients_is_folded_between_them():
    to = tuple(Address(f"person.number{n}@example.com", f"Person, {n}") for n in range(40))
    raw = compose(replace(MAIL, to=to))
    assert mailboxes(read(raw), "To") == to
    assert max(map(len, header_lines(raw))) <= 76


def test_ascii_text_of_short_lines_stays_readable_as_it_is():
    assert b"\r\n\r\nHello\r\n" in compose(replace(MAIL, html=None))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("a short line", "7bit"),
        ("x" * 77, "quoted-printable"),
        ("trailing space \nnext", "quoted-printable"),
        ("Grüße aus Köln, wie geht es dir denn heute?", "quoted-printable"),
        ("漢字かな交じり文", "base64"),
        ("From me to you", "quoted-printable"),
        ("one\n.\ntwo", "quoted-printable"),
        ("a=_b", "quoted-printable"),
        *((f"{'x' * length}\u0800{end}", "quoted-printable") for length in range(60, 80) for end in (" ", "\t", "  ")),
    ],
)
def test_a_text_is_sent_in_the_shortest_encoding_that_survives_the_way(text, encoding):
    message = read(compose(replace(MAIL, html=None, text=text)))
    assert message["Content-Transfer-Encoding"] == encoding
    assert bodies(message) == {"plain": as_lines(text)}


# Names and addresses


@pytest.mark.parametrize(
    "name",
    [
        "Lovelace, Ada",
        "eve@evil.example, Ada",
        "Ada <eve@evil.example>",
        "Ada>, <eve@evil.example",
        'Ada "the Countess" Lovelace',
        "back\\slash",
        '\\"',
        "=?utf-8?q?Eve_=3Ceve=40evil=2Eexample=3E=2C?=",
        "Ada (comment)",
        "group: eve@evil.example;",
        "Zoë, Ünal <eve@evil.example>",
        "漢" * 60,
        "two  spaces",
        "a" * 300,
        "J. R. Tolkien",
    ],
)
def test_whatever_a_name_says_there_is_still_one_recipient(name):
    message = read(compose(replace(MAIL, to=(Address("ada@example.com", name),))))
    assert mailboxes(message, "To") == (Address("ada@example.com", name),)


def test_a_local_part_beyond_ascii_is_written_as_utf8_and_nothing_else_is():
    raw = compose(replace(MAIL, to=(Address("zoë@xn--bcher-kva.example", "Zoë"),), subject="Grüße"))
    assert "To: =?utf-8?q?Zo=C3=AB?= <zoë@xn--bcher-kva.example>\r\n".encode() in raw
    assert raw.replace("zoë@".encode(), b"").isascii()


def test_an_address_that_nobody_normalised_is_checked_all_the_same():
    for email in ("ada@example.com, eve@evil.example", "ada@example.com>\r\nBcc: <eve@evil.example", "", "ada"):
        with pytest.raises(AddressError):
            compose(replace(MAIL, to=(Address(email),)))


# Injection


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("where", ["subject", "sender", "to", "cc", "reply_to", "header value", "header name"])
def test_a_control_character_anywhere_in_a_header_is_refused_as_an_injection(control, where):
    text = f"Hi{control}Bcc: eve@evil.example"
    person = Address("ada@example.com", text)
    mail = {
        "subject": replace(MAIL, subject=text),
        "sender": replace(MAIL, sender=person),
        "to": replace(MAIL, to=(ADA, person)),
        "cc": replace(MAIL, cc=(person,)),
        "reply_to": replace(MAIL, reply_to=(person,)),
        "header value": replace(MAIL, headers=(("X-Tag", text),)),
        "header name": replace(MAIL, headers=((text, "a"),)),
    }[where]
    with pytest.raises(HeaderError) as caught:
        compose(mail)
    assert caught.value.injection


def test_errors_stay_short_whatever_they_are_about():
    for name, value in (("X" * 76, "\n" * 999), ("\n" * 999, "a"), ("é" * 999, "a"), ("Content-" + "x" * 68, "a")):
        with pytest.raises(HeaderError) as caught:
            check_header(name, value)
        assert len(str(caught.value)) <= 200


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?Hello=0D=0ABcc:_eve@evil.example?=",
        "=?utf-8?b?SGVsbG8NCkJjYzogZXZlQGV2aWwuZXhhbXBsZQ==?=",
        "Hello =?iso-8859-1?Q?=0ABcc:_eve@evil.example?= and more",
        "=?utf-8?q?unfinished",
        "Grüße =?utf-8?q?=0ABcc:_eve?=",
    ],
)
def test_an_encoded_word_in_a_subject_is_shown_as_it_was_typed(subject):
    message = read(compose(replace(MAIL, subject=subject)))
    assert message.keys() == [*ALWAYS, "Content-Type"]
    assert decoded(message["Subject"]) == subject


@pytest.mark.parametrize("field", ["job_id", "message_id_domain"])
@pytest.mark.parametrize("text", ["", "a\r\nBcc: eve", "a b", "a>b", 'a"b', "é", "a" * 300 + "!"])
def test_a_message_id_that_is_no_message_id_is_refused(field, text):
    with pytest.raises(HeaderError):
        compose(replace(MAIL, **{field: text}))


@pytest.mark.parametrize(
    "name",
    [
        *("From", "bcc", "SENDER", "Content-Type", "content-anything", "Resent-To", "ARC-Seal", "DKIM-Signature"),
        *("List-Unsubscribe", "List-Unsubscribe-Post", "Auto-Submitted", "Return-Path", "Message-Id", "mime-version"),
        *("Received", "Authentication-Results"),
    ],
)
def test_an_author_cannot_set_a_header_that_is_ours(name):
    with pytest.raises(HeaderError) as caught:
        check_header(name, "a")
    assert not caught.value.injection


@pytest.mark.parametrize("name", ["", "X Tag", "X-Tag:", "X-Täg", "X" * 77, ":"])
def test_a_name_that_no_header_can_have_is_refused(name):
    with pytest.raises(HeaderError):
        check_header(name, "a")


@pytest.mark.parametrize("name", ["X-Tag", "References", "In-Reply-To", "List-Id", "Importance", "X" * 76])
def test_an_author_may_set_other_headers(name):
    value = "<1@example.com> " * 20 + "end"
    check_header(name, value)
    assert unfolded(read(compose(replace(MAIL, headers=((name, value),))))[name]) == value


def test_a_long_word_of_an_authors_header_stays_in_one_piece():
    url = "<https://example.com/" + "x" * 800 + ">"
    assert f"X-Link: {url}\r\n".encode() in compose(replace(MAIL, headers=(("X-Link", url),)))


def test_half_of_a_surrogate_pair_gives_an_error_that_says_so():
    half = "broken \ud83d emoji"
    for mail in (replace(MAIL, subject=half), replace(MAIL, headers=(("X-Tag", half),))):
        with pytest.raises(HeaderError, match="surrogate") as caught:
            compose(mail)
        assert not caught.value.injection
    for mail in (replace(MAIL, html=half), replace(MAIL, text=half)):
        with pytest.raises(RenderingError, match="surrogate"):
            compose(mail)


def test_the_error_of_a_text_begins_with_what_it_is():
    with pytest.raises(HeaderError, match=r"^The subject has the control character U\+000A at position 2;"):
        check_header_text("The subject", "Hi\n")


# For all texts


@given(HEADER_TEXT)
def test_any_subject_is_read_as_it_was_written(subject):
    raw = compose(replace(MAIL, subject=subject))
    message = read(raw)
    assert_fit_for_smtp(raw)
    assert message.keys() == [*ALWAYS, "Content-Type"]
    assert decoded(message["Subject"]) == subject
    assert max(map(len, header_lines(raw))) <= 76
    assert b"Subject:\r\n" not in raw or not subject


@given(HEADER_TEXT, st.sampled_from(["X-A", "X-" + "Long" * 18]))
def test_any_value_of_an_authors_header_is_read_as_it_was_written(value, name):
    raw = compose(replace(MAIL, headers=((name, value),)))
    message = read(raw)
    assert_fit_for_smtp(raw)
    assert message.keys() == [*ALWAYS, name, "Content-Type"]
    assert decoded(message[name]) == value


@given(ADDRESS, ADDRESSES, ADDRESSES, ADDRESSES)
def test_a_mail_names_exactly_the_mailboxes_it_was_given(sender, to, cc, reply_to):
    raw = compose(replace(MAIL, sender=sender, to=to, cc=cc, reply_to=reply_to))
    message = read(raw)
    assert_fit_for_smtp(raw)
    assert mailboxes(message, "From") == (sender,)
    assert mailboxes(message, "Cc") == cc
    assert mailboxes(message, "Reply-To") == reply_to
    if to:
        assert mailboxes(message, "To") == to
    assert set(message.keys()) <= {*ALWAYS, "Cc", "Reply-To", "Content-Type"}
    assert len(message.keys()) == len(set(message.keys()))


@given(st.none() | BODY, BODY)
def test_any_body_is_read_as_it_was_written_but_for_its_line_ends(html, text):
    mail = replace(MAIL, html=html, text=text)
    raw = compose(mail)
    assert_fit_for_smtp(raw)
    assert not re.search(rb"^(?:From |\.\r?$)", raw, re.MULTILINE)
    assert max(map(len, raw.split(b"\r\n"))) <= 76
    expected = {"plain": as_lines(text)} | ({} if html is None else {"html": as_lines(html)})
    assert bodies(read(raw)) == expected
    assert raw.count(b"--=_alternative.01JZ4YQ8W8Z6") == (0 if html is None else 3)


@given(HEADER_TEXT, BODY, ADDRESSES)
def test_the_same_message_gives_the_same_bytes(subject, text, to):
    mail = replace(MAIL, subject=subject, text=text, to=to)
    assert compose(mail) == compose(replace(mail))


@given(HEADER_TEXT, ADDRESS)
def test_encoded_words_keep_to_the_limits_of_their_rfc(subject, person):
    lines = header_lines(compose(replace(MAIL, subject=subject, to=(person,))))
    for line in lines:
        words = re.findall(rb"=\?utf-8\?([qb])\?([^? ]*)\?=", line)
        assert not words or len(line) <= 76
        assert all(len(payload) + 12 <= 75 for _, payload in words)
        for word in re.findall(rb"=\?[^ ]*\?=", line):  # each is whole characters by itself
            decode_header(word.decode())[0][0].decode()
