"""A text of any length travels in the encoding that is the shortest, and is read as it was written."""

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.transfer_encoding import PIECE, encoded

DECODERS = {"7bit": bytes, "quoted-printable": quopri.decodestring, "base64": base64.b64decode}
WORDS = st.sampled_from(
    ["From ", "From me", "x" * 30, "word ", " ", "\t", ".", "=", "=_", "é", "漢", "😀", "\n", "\n", "\r\n", "\r"]
)
TEXTS = st.lists(WORDS, max_size=60).map("".join)
ENGLISH = "a line as it is written every day by everybody, who knows\n"
GERMAN = "eine Zeile, so wie man sie schreibt, und es grüßt der Müller\n"
RUSSIAN = "Привет, мир! Как дела? Всё хорошо.\n"


def read(name: str, body: bytes) -> bytes:
    return DECODERS[name](body)


def lines_of(text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    return "".join(f"{line}\r\n" for line in lines).encode()


@given(TEXTS)
def test_what_is_read_is_what_was_written_and_fits_the_wire(text):
    name, body = encoded(text.encode())
    assert read(name, body) == lines_of(text)
    assert body.isascii()
    assert body.endswith(b"\r\n")
    assert max(map(len, body.split(b"\r\n"))) <= 76
    assert b"=_" not in body


@given(TEXTS)
def test_in_pieces_it_is_the_same_as_in_one_go(text):
    longest = max(map(len, lines_of(text).splitlines(keepends=True)))
    assert encoded(text.encode(), piece=max(longest, 100)) == encoded(text.encode())


@pytest.mark.parametrize(
    ("line", "name"), [(ENGLISH, "7bit"), (GERMAN, "quoted-printable"), (RUSSIAN, "base64"), ("x" * 100, "base64")]
)
def test_a_text_of_megabytes_is_encoded_as_a_short_one_of_its_kind(line, name):
    """The last is one line: whoever writes that does not read it as it is."""
    text = line * (10 * PIECE // len(line.encode()))
    told, body = encoded(text.encode())
    assert told == name
    assert (read(told, body) == lines_of(text)) is True


@pytest.mark.parametrize("piece", range(4, 12))
def test_no_line_ends_twice_where_a_piece_does(piece):
    text = b"a\r\nb\rcd\n\r\n\r\n\r\r\n\ne\r" * 3
    assert encoded(text, piece) == ("7bit", lines_of(text.decode()))


@given(st.lists(st.text("aé漢 ", max_size=80).map(str.rstrip), min_size=1).map("\n".join))
def test_it_never_takes_more_than_base64_does(text):
    """But where lines of ASCII end with a space, which few do."""
    octets = len(lines_of(text))
    assert len(encoded(text.encode())[1]) <= -(-octets // 3) * 4 + -(-octets // 57) * len(b"\r\n")
