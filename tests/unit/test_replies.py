"""What a relay's words mean: its enhanced code, and, where no words say more, the first digit of its code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.jobs import Phase, Reply
from worker.relays.answers import MAX_TEXT, Answer, Kind, reply_of
from worker.relays.replies import Fate, decide


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
