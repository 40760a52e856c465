"""A captured mail is shown as its reader would see it, and no mail, however it was made, breaks the mailbox."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.reading import ReadAddress, read_head
from mailer.store.mailbox import Captured, Summary
from service.mailbox_page import Listing, Opened, Place, View, ago, render, shown_size
from service.mailbox_schemas import show_mail
from service.mailbox_view import Attachment, as_page, read_mail, source_text

JOB = "7c1f0f3d2f4e4fd0a50c0f6cbbd6ff9e"
PLAIN = b"From: a@x.test\r\nTo: b@x.test\r\nSubject: Hi\r\n\r\nHello\r\n"
ALTERNATIVE = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@x.test>\r\nTo: Ada <ada@x.test>, b@x.test\r\nCc: c@x.test\r\n"
    b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nMessage-ID: <" + JOB.encode() + b"@mail.x.test>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="o"\r\n\r\n'
    b'--o\r\nContent-Type: multipart/alternative; boundary="i"\r\n\r\n'
    b"--i\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n"
    b"--i\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"<p>Gr=C3=BC=C3=9Fe</p>\r\n--i--\r\n"
    b'--o\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="../../a b.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nquoted\r\n--o--\r\n"
)


def captured(raw: bytes) -> Captured:
    head = read_head(raw)
    return Captured(
        Summary("0" * 32, 1, 0, len(raw), head.subject, head.sender, head.to, head.job_id, "a@x.test", ("b@x.test",)),
        raw,
    )


def page(raw: bytes, view: View | None = None) -> str:
    mail = captured(raw)
    listing = Listing((mail.summary,), None, more=False)
    return render(listing, Opened(mail.summary.id, mail, view), Place("localhost:8000", needs_key=False), 0)


# Bytes, and texts built of what makes parsers trip: encoded words, charsets, boundaries, broken encodings.
PIECES = st.sampled_from(
    [
        b"From: ", b"To: ", b"Cc: ", b"Subject: ", b"Message-ID: ", b"Content-Type: ", b"Content-Disposition: ",
        b"Content-Transfer-Encoding: ", b"MIME-Version: 1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b";",
        b"--b", b"--b--", b"multipart/mixed; boundary=b", b"multipart/alternative; boundary=", b"text/html; charset=",
        b"text/plain", b"message/rfc822", b"message/delivery-status", b"base64", b"quoted-printable", b"x-uuencode",
        b"begin 666 a\n#0V%T", b"utf-8", b"utf-7", b"utf-16", b"idna", b"rot13", b"unicode_escape", b"undefined",
        b"\\N{", b"+2AA-", b"\xed\xa0\x80", b"attachment; filename*0*=utf-8''%ff", b"; filename*=", b"; filename*1=",
        b"'x'%E4", b"=?utf-8?b?", b"=?utf-8?q?=ff", b"=?idna?q?a?=", b"=?x\0y?q?a?=", b"?=", b"<", b">", b"@", b"(",
        b'"', b"\\", b",", b":", b"\0", b"\x1c", b"\x85", b"\xff",
    ]
)  # fmt: skip
HOSTILE = st.binary() | st.lists(PIECES | st.binary(max_size=4), max_size=60).map(b"".join)


@given(HOSTILE)
def test_no_bytes_break_the_mailbox(raw: bytes) -> None:
    mail = show_mail(captured(raw))
    orjson.loads(mail.model_dump_json(by_alias=True))
    read_head(raw).subject.encode()
    if mail.html is not None:
        as_page(mail.html).encode()


@given(HOSTILE, st.none() | st.sampled_from(View))
def test_no_bytes_break_the_page(raw: bytes, view: View | None) -> None:
    page(raw, view).encode()


@given(HOSTILE)
def test_a_summary_of_a_mail_is_one_line(raw: bytes) -> None:
    head = read_head(raw)
    texts = [head.subject, *(address.name or "" for address in head.to)]
    assert not any(line_end in text for text in texts for line_end in "\r\n\u2028")


class TestReading:
    def test_text_and_html_are_decoded_from_their_charsets(self) -> None:
        parts = read_mail(ALTERNATIVE).parts
        assert (parts.text, parts.html) == ("Grüße", "<p>Grüße</p>")

    def test_people_and_subject_are_decoded(self) -> None:
        mail = read_mail(ALTERNATIVE)
        assert mail.subject == "Grüße"
        assert mail.sender == ReadAddress("j@x.test", "Jürgen")
        assert mail.to == (ReadAddress("ada@x.test", "Ada"), ReadAddress("b@x.test"))
        assert mail.cc == (ReadAddress("c@x.test"),)

    def test_attachments_are_named_with_type_and_size(self) -> None:
        assert read_mail(ALTERNATIVE).parts.attachments == (
            Attachment("../../a b.pdf", "application/pdf", 4),
            Attachment(None, "message/rfc822", None),
        )

    def test_headers_keep_their_order_and_repeats(self) -> None:
        raw = b"Received: two\r\nReceived: one\r\nX-Long: a\r\n b\r\n\r\n"
        assert read_mail(raw).headers == (("Received", "two"), ("Received", "one"), ("X-Long", "a b"))

    @pytest.mark.parametrize(
        ("message_id", "job"),
        [
            (f"<{JOB}@mail.x.test>", JOB),
            (f"<{JOB.upper()}@mail.x.test>", None),
            ("<20261123.1@mail.x.test>", None),
            (f"<{JOB}>", None),
            (f"<x{JOB}@mail.x.test>", None),
        ],
    )
    def test_a_mail_of_postroom_is_known_by_its_message_id(self, message_id: str, job: str | None) -> None:
        assert read_head(f"Message-ID: {message_id}\r\n\r\n".encode()).job_id == job

    def test_an_address_that_cannot_be_understood_is_shown_as_it_is_written(self) -> None:
        assert read_head(b"To: undisclosed-recipients:;\r\n\r\n").to == (ReadAddress("", "undisclosed-recipients:;"),)

    def test_a_comma_in_an_encoded_name_does_not_make_two_people(self) -> None:
        head = read_head(b"To: =?utf-8?q?Lovelace=2C_Ada?= <ada@x.test>\r\n\r\n")
        assert head.to == (ReadAddress("ada@x.test", "Lovelace, Ada"),)

    def test_header_bytes_above_127_are_read_as_utf_8(self) -> None:
        assert read_head("Subject: Grüße\r\n\r\n".encode()).subject == "Grüße"

    def test_parts_nested_without_end_leave_the_source_to_look_at(self) -> None:
        raw = b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(3000))
        assert not read_mail(raw).parts.readable
        assert "cannot be told apart" in page(raw)


class TestPage:
    def test_nothing_in_a_mail_becomes_part_of_the_page(self) -> None:
        raw = b"From: <script>1</script> <a@x.test>\r\nSubject: <img src=x onerror=1>\r\n\r\n<script>2</script>"
        for view in View:
            html = page(raw, view)
            assert "<script>" not in html
            assert "<img src=x" not in html

    def test_the_html_stands_in_a_frame_without_scripts(self) -> None:
        frame = page(ALTERNATIVE).partition("<iframe")[2].partition(">")[0]
        assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in frame

    def test_a_mail_without_html_opens_with_its_text(self) -> None:
        assert '<pre class="text">Hello' in page(PLAIN)
        assert '<pre class="text">Hello' in page(PLAIN, View.HTML)

    def test_a_host_made_to_deceive_is_not_in_the_command(self) -> None:
        html = render(Listing((), None, more=False), None, Place("x;rm -rf ~", needs_key=True), 0)
        assert "localhost:8000/jobs" in html
        assert "rm -rf" not in html
        assert "authorization: Bearer" in html

    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [(-5, "now"), (59, "now"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (86_400, "1 Jan")],
    )
    def test_a_time_is_shown_from_now(self, seconds: int, shown: str) -> None:
        assert ago(0, seconds * 1000) == shown

    @pytest.mark.parametrize(
        ("size", "shown"), [(999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (None, "")]
    )
    def test_a_size_is_shown_shortly(self, size: int | None, shown: str) -> None:
        assert shown_size(size) == shown


class TestPreview:
    @pytest.mark.parametrize(
        ("html", "expected"),
        [
            ("<!doctype html><head lang=x><p>", '<!doctype html><head lang=x><base target="_blank"><p>'),
            ("<!DOCTYPE html><p>", '<!DOCTYPE html><base target="_blank"><p>'),
            ("<header>x", '<base target="_blank"><header>x'),
        ],
    )
    def test_links_open_in_a_new_window_and_the_layout_is_kept(self, html: str, expected: str) -> None:
        assert as_page(html) == expected

    def test_the_source_is_the_mail_as_it_came(self) -> None:
        assert source_text(PLAIN) == PLAIN.decode().replace("\r\n", "\n")
