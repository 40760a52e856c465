"""What the queue server keeps of records by the million is small, and read back as it was written."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.addresses import Address
from mailer.jobs import JournalMark, Recipient, RecipientStatus, Reply
from mailer.store import packing, records
from mailer.store.packing import MOST_OCTETS, pack, unpack

LISTPACK_OCTETS = 64
"""hash-max-listpack-value: with a longer value than that a server keeps a record in more than twice the memory."""


@given(st.binary(max_size=500).map(lambda octets: b"{" + octets))
def test_whatever_is_packed_is_read_back(text):
    assert unpack(pack(text)) == text


@given(st.text(max_size=300).map(lambda text: f'"{text}"'.encode()))
def test_packing_makes_nothing_larger(text):
    assert len(pack(text)) <= len(text)


def test_what_an_earlier_release_wrote_is_read_as_it_is():
    assert unpack(b'[{"address":{"email":"ada@example.com"}}]') == b'[{"address":{"email":"ada@example.com"}}]'


def test_the_whole_dictionary_is_as_it_was_written_with():
    """What is read with another one reads otherwise, without any error. It has to fit into the window."""
    assert (zlib.crc32(packing._WORDS), len(packing._WORDS)) == (1674131694, 1664)
    assert len(packing._WORDS) <= 2048


def test_the_dictionary_is_part_of_the_format():
    """It was written by 0.5.0. Who changes the dictionary has to give it another first octet, and to read both."""
    assert unpack(bytes.fromhex("01c3eef1c49444f2fd5e1b0b00")) == (
        b'[{"address":{"email":"ada@example.com","name":null},"field":"to","status":"pending"}]'
    )


@pytest.mark.parametrize("broken", [b"\x01", b"\x01\xff\xff", pack(b'{"relay":"a","number":1,"at":17}')[:-1]])
def test_what_nobody_packed_is_an_error_and_no_endless_text(broken):
    with pytest.raises(ValueError, match="a value that"):
        unpack(broken)


def test_a_value_that_would_be_huge_is_not_unpacked():
    packer = zlib.compressobj(wbits=-11)
    with pytest.raises(ValueError, match="too many octets"):
        unpack(b"\x01" + packer.compress(b"a" * (MOST_OCTETS + 1)) + packer.flush())


@pytest.mark.parametrize(
    "value",
    [
        records.encode_recipients((Recipient(Address("ada.lovelace@example.com")),)),
        records.encode_recipients(
            (Recipient(Address("ada@example.com"), status=RecipientStatus.SENT, reply=Reply(250, "Ok", "2.0.0")),)
        ),
        records.encode_journal(JournalMark("smtp.example.com:587", 1, 1_795_619_716_694)),
    ],
)
def test_what_a_usual_record_says_fits_into_the_small_form(value):
    assert len(value) <= LISTPACK_OCTETS
