"""What a relay's words mean for a recipient."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.jobs import RecipientStatus, Reply
from worker.relays.replies import MAX_TEXT, reply_of, status_after


@pytest.mark.parametrize(
    ("code", "text", "reply"),
    [
        (250, "2.0.0 OK queued as 1A2B", Reply(250, "OK queued as 1A2B", "2.0.0")),
        (250, "OK", Reply(250, "OK")),
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
    ],
)
def test_the_enhanced_code_is_set_apart_from_the_words(code, text, reply):
    assert reply_of(code, text) == reply


@given(st.none() | st.integers(200, 599), st.text(st.characters(exclude_categories=[])))
def test_whatever_a_relay_says_is_one_bounded_line_of_valid_text(code, text):
    reply = reply_of(code, text)
    assert len(reply.text) <= MAX_TEXT
    assert not {"\r", "\n"} & set(reply.text)
    reply.text.encode()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (250, RecipientStatus.SENT),
        (251, RecipientStatus.SENT),
        (421, RecipientStatus.DEFERRED),
        (450, RecipientStatus.DEFERRED),
        (452, RecipientStatus.DEFERRED),
        (354, RecipientStatus.DEFERRED),
        (550, RecipientStatus.FAILED),
        (554, RecipientStatus.FAILED),
        (599, RecipientStatus.FAILED),
        (None, RecipientStatus.DEFERRED),
        (0, RecipientStatus.DEFERRED),
        (-1, RecipientStatus.DEFERRED),
        (650, RecipientStatus.DEFERRED),
    ],
)
def test_taken_refused_or_to_be_tried_again(code, status):
    assert status_after(code) is status
