"""What a relay says is understood whatever the pieces it comes in, or it is Malformed; and it never takes much room."""

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.relays.parsing import MAX_OCTETS, Malformed, RawReply, ReplyParser

Result = tuple[list[RawReply], str | None]
"""The replies, and what was malformed after them."""


def heard(*pieces: bytes) -> Result:
    parser, replies = ReplyParser(), list[RawReply]()
    for piece in pieces:
        try:
            replies += parser.feed(piece)
        except Malformed as error:
            return replies + list(error.before), str(error)
    return replies, None


def fed_for_ever(parser: ReplyParser, piece: bytes) -> None:
    while True:
        parser.feed(piece)


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(octets) + 1) for place in places} | {len(octets)})
    starts = [0, *ends]
    return [octets[start:end] for start, end in zip(starts, ends, strict=False)]


codes = st.integers(200, 599)
line_ends = st.sampled_from([b"\r\n", b"\n", b"\r\r\n"])
texts = st.one_of(
    st.sampled_from([b"", b"ok", b"2.1.0 ok", b"-", b"250 ok", b"\xff\xfe", b"\0", b"caf\xe9", "é☃".encode()]),
    st.binary(max_size=40).map(lambda octets: octets.replace(b"\n", b"").replace(b"\r", b"")),
)
places = st.lists(st.integers(0, 10_000), max_size=20)


@st.composite
def replies_as_said(draw: st.DrawFn) -> tuple[bytes, RawReply]:
    """A valid reply: its octets, and what it says."""
    code, lines = draw(codes), draw(st.lists(texts, min_size=1, max_size=4))
    octets = b"".join(b"%d-%b%b" % (code, text, draw(line_ends)) for text in lines[:-1])
    is_bare = not lines[-1] and draw(st.booleans())
    octets += b"%d%b%b%b" % (code, b"" if is_bare else b" ", lines[-1], draw(line_ends))
    return octets, RawReply(code, b"\n".join(text.strip() for text in lines).decode("utf-8", "replace"))


pieces_of_replies = st.sampled_from(
    [b"250", b"354", b"550", b"2", b"25", b"999", b" ", b"-", b"ok", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"x" * 200]
)
noise = st.one_of(st.binary(max_size=200), st.lists(pieces_of_replies, max_size=40).map(b"".join))


class TestValidReplies:
    @given(st.lists(replies_as_said(), max_size=5), places)
    def test_all_of_them_are_heard_as_they_were_said(self, said: list[tuple[bytes, RawReply]], places: list[int]):
        octets = b"".join(each for each, _ in said)
        assert heard(*cut(octets, places)) == ([reply for _, reply in said], None)

    @pytest.mark.parametrize(
        ("octets", "code", "text"),
        [
            (b"250 ok\r\n", 250, "ok"),
            (b"250 ok\n", 250, "ok"),
            (b"250\r\n", 250, ""),
            (b"250 \r\n", 250, ""),
            (b"250-\r\n250\r\n", 250, "\n"),
            (b"550-5.1.1 No\r\n550-5.1.1 such\n550 5.1.1 user\r\n", 550, "5.1.1 No\n5.1.1 such\n5.1.1 user"),
            (b"250 250 ok\r\n", 250, "250 ok"),
            (b"250 -ok\r\n", 250, "-ok"),
            (b"250   ok  \r\n", 250, "ok"),
            (b"550 caf\xe9\r\n", 550, "caf�"),
            ("550 café\r\n".encode(), 550, "café"),
            (b"250 one\rtwo\r\n", 250, "one\rtwo"),
        ],
    )
    def test_one_by_one(self, octets: bytes, code: int, text: str):
        assert heard(octets) == ([RawReply(code, text)], None)

    @given(replies_as_said())
    def test_a_reply_is_not_heard_before_its_last_octet(self, said: tuple[bytes, RawReply]):
        octets, reply = said
        parser = ReplyParser()
        assert not parser.is_midway
        assert (parser.feed(octets[:-1]), parser.is_midway) == ([], True)
        assert (parser.feed(octets[-1:]), parser.is_midway) == ([reply], False)

    def test_between_two_lines_of_a_reply_it_has_not_ended(self):
        parser = ReplyParser()
        assert (parser.feed(b"250-ok\r\n"), parser.is_midway) == ([], True)
        assert (parser.feed(b"250 ok\r\n"), parser.is_midway) == ([RawReply(250, "ok\nok")], False)


class TestOtherOctets:
    @given(noise, places)
    @example(b"250 ok\r\n250-a\r\n251 b\r\n250 never heard\r\n", [])
    def test_nothing_is_raised_but_malformed_and_the_pieces_make_no_difference(self, octets: bytes, places: list[int]):
        whole = heard(octets)
        assert heard(*cut(octets, places)) == whole
        assert heard(*(octets[at : at + 1] for at in range(len(octets)))) == whole

    @given(st.lists(replies_as_said(), max_size=3), noise, places)
    def test_what_was_said_before_it_counts(self, said: list[tuple[bytes, RawReply]], after: bytes, places: list[int]):
        octets = b"".join(each for each, _ in said)
        replies, _ = heard(*cut(octets + after, places))
        assert replies[: len(said)] == [reply for _, reply in said]

    @pytest.mark.parametrize(
        "octets",
        [
            b"\r\n",
            b"\n",
            b"ok\r\n",
            b"25\r\n",
            b"2500 ok\r\n",
            b"250ok\r\n",
            b"250_ok\r\n",
            b"250\tok\r\n",
            b" 250 ok\r\n",
            b"-250 ok\r\n",
            b"099 ok\r\n",
            b"150 ok\r\n",
            b"600 ok\r\n",
            b"\xef\xbb\xbf250 ok\r\n",
            "\u0662\u0665\u0660 ok\r\n".encode(),
            b"\0250 ok\r\n",
            b"\r250 ok\r\n",
            b"250-ok\r\n\r\n",
            b"250-ok\r\nok\r\n",
        ],
    )
    def test_no_reply_at_all(self, octets: bytes):
        replies, trouble = heard(octets)
        assert replies == []
        assert trouble is not None
        assert trouble.startswith("Not an SMTP reply: ")

    @given(codes, codes, st.lists(texts, min_size=1, max_size=3), st.sampled_from([b" ", b"-"]), places)
    def test_lines_of_one_reply_with_two_codes_are_none(
        self, one: int, other: int, lines: list[bytes], more: bytes, places: list[int]
    ):
        octets = b"".join(b"%d-%b\r\n" % (one, text) for text in lines) + b"%d%bend\r\n" % (other, more)
        replies, trouble = heard(*cut(octets + b"250 ok\r\n", places))
        if one != other:
            assert replies == []
            assert trouble is not None
            assert "two codes" in trouble

    def test_what_is_told_of_it_is_short_and_printable(self):
        _, trouble = heard(b"\x1b[31m\xff" + b"x" * 5000 + b"\r\n")
        assert trouble is not None
        assert trouble.isprintable()
        assert len(trouble) < 400


class TestEndlessReplies:
    """Of more than 64 KB: the relay would otherwise be listened to without end."""

    @pytest.mark.parametrize("start", [b"", b"250 ", b"250-", b"250-ok\r\n250 "])
    @pytest.mark.parametrize("size", [1000, 64 * 1024, 1024 * 1024])
    def test_a_line_without_end(self, start: bytes, size: int):
        assert heard(start + b"x" * 10, *[b"x" * size] * (MAX_OCTETS // size + 1)) == (
            [],
            "A reply of more than 65,536 octets",
        )

    @pytest.mark.parametrize("line", [b"250-\n", b"250-ok\r\n", b"250-" + b"x" * 5000 + b"\r\n"])
    @pytest.mark.parametrize("at_once", [1, 100, 20_000])
    def test_lines_without_end(self, line: bytes, at_once: int):
        times = MAX_OCTETS // len(line) // at_once + 1
        assert heard(*[line * at_once] * times) == ([], "A reply of more than 65,536 octets")

    @pytest.mark.parametrize("before", [b"", b"250 ok\r\n" * 3])
    def test_the_longest_reply_is_one(self, before: bytes):
        longest = b"250 " + b"x" * (MAX_OCTETS - 5) + b"\n"
        short = [RawReply(250, "ok")] * before.count(b"\n")
        for pieces in ([before + longest], [before, longest[:-1], longest[-1:]]):
            replies, trouble = heard(*pieces)
            assert (replies[:-1], replies[-1].text, trouble) == (short, "x" * (MAX_OCTETS - 5), None)
        assert heard(before + longest[:-1] + b"x\n") == (short, "A reply of more than 65,536 octets")

    def test_many_short_replies_are_no_endless_one(self):
        assert heard(*[b"250 ok\r\n" * 1000] * 50) == ([RawReply(250, "ok")] * 50_000, None)

    @pytest.mark.parametrize("piece", [b"x", b"250-\n", b"250-ok\r\n"])
    def test_it_never_takes_much_room(self, piece: bytes):
        """Lines of nothing too, each of which costs more than it says."""
        parser = ReplyParser()
        tracemalloc.start()
        try:
            with pytest.raises(Malformed):
                fed_for_ever(parser, piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 40 * MAX_OCTETS
