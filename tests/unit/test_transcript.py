"""The conversation of an attempt can be read in its record: in order, with its times, and never too long."""

import re

from hypothesis import given
from hypothesis import strategies as st

from worker.relays.transcript import FIRST_LINES, MOST_CHARS, MOST_LINES, written_down

BEGAN = 1000.0
WRITTEN = re.compile(r"\d+ [<>-] .*", re.DOTALL)

Noted = list[tuple[float, str, bytes | str]]


def each_second(*said: bytes | str, direction: str = "<") -> Noted:
    return [(BEGAN + at, direction, words) for at, words in enumerate(said)]


def test_each_thing_said_is_a_line_with_its_milliseconds_and_its_direction() -> None:
    noted: Noted = [
        (BEGAN, "-", "connected to 127.0.0.1 port 25"),
        (BEGAN + 0.0124, "<", "220 relay.test ESMTP"),
        (BEGAN + 0.5, ">", b"MAIL FROM:<a@example.com>\r\n"),
        (BEGAN + 60, "<", "250 ok"),
    ]
    assert written_down(noted, BEGAN) == (
        "0 - connected to 127.0.0.1 port 25",
        "12 < 220 relay.test ESMTP",
        "500 > MAIL FROM:<a@example.com>",
        "60000 < 250 ok",
    )


def test_commands_said_in_one_go_and_lines_of_a_reply_are_lines_of_their_own() -> None:
    noted: Noted = [
        (BEGAN, ">", b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"),
        (BEGAN, "<", "550 5.1.1 no\n5.1.1 such user"),
    ]
    assert written_down(noted, BEGAN) == (
        "0 > MAIL FROM:<a@example.com>",
        "0 > RCPT TO:<b@example.com>",
        "0 > DATA",
        "0 < 550 5.1.1 no",
        "0 < 5.1.1 such user",
    )


def test_what_is_no_text_is_shown_as_far_as_it_is() -> None:
    noted = each_second(b"caf\xe9 \xff\r\n", "caf\udce9", "é☃".encode(), "é☃")
    assert written_down(noted, BEGAN) == ("0 < caf\ufffd \ufffd", "1000 < caf?", "2000 < é☃", "3000 < é☃")


def test_what_a_terminal_would_obey_and_a_database_refuse_is_not_kept() -> None:
    assert written_down(each_second("250 o\0k \x1b[31mred\x07", b"\x9b\tx\x7f\r\n"), BEGAN) == (
        "0 < 250 o?k ?[31mred?",
        "1000 < \ufffd\tx?",
    )


def test_a_long_line_is_cut() -> None:
    assert written_down(each_second("x" * 5000), BEGAN) == ("0 < " + "x" * MOST_CHARS,)


def test_spaces_at_the_end_of_a_line_are_left_out() -> None:
    assert written_down(each_second("250 ", "221 bye \t "), BEGAN) == ("0 < 250", "1000 < 221 bye")


def test_nothing_said_is_nothing() -> None:
    assert written_down([], BEGAN) == ()


def test_as_many_lines_as_may_be_are_kept_as_they_are() -> None:
    said = [str(number) for number in range(MOST_LINES)]
    assert written_down(each_second(*said), BEGAN) == tuple(f"{at * 1000} < {at}" for at in range(MOST_LINES))


def test_in_a_long_conversation_its_middle_is_left_out_and_the_line_says_so() -> None:
    lines = written_down(each_second(*map(str, range(MOST_LINES + 1))), BEGAN)
    end = range(FIRST_LINES + 1, MOST_LINES + 1)
    assert lines == (
        *(f"{at * 1000} < {at}" for at in range(FIRST_LINES)),
        f"{end[0] * 1000} - 1 lines left out",
        *(f"{at * 1000} < {at}" for at in end),
    )


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.sampled_from("<>-"), st.binary(max_size=60) | st.text(max_size=60)),
        max_size=MOST_LINES * 2,
    )
)
def test_whatever_is_said_the_lines_are_few_short_and_in_order(said: Noted) -> None:
    noted = sorted(((BEGAN + at, direction, words) for at, direction, words in said), key=lambda each: each[0])
    lines = written_down(noted, BEGAN)
    assert len(lines) <= MOST_LINES + 1, "and one that tells of the others"
    assert max(map(len, lines), default=0) <= MOST_CHARS + 20
    assert [line for line in lines if not WRITTEN.fullmatch(line)] == []
    times = [int(line.split(" ")[0]) for line in lines]
    assert times == sorted(times)
    "".join(lines).encode()
