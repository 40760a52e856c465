"""Mail servers that people really run take a mail as it was written: Postfix, Exim and OpenSMTPD."""

import re
import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import trustme

from mailer.jobs import Phase
from tests.peers import contents
from tests.peers.handing_over import Hands, hands
from tests.peers.servers import MailServer
from tests.support.resets import resets_answered
from worker.relays.answers import Kind

ADA, BOB = "ada@example.test", "bob@example.test"
REFUSED, LATER = "nobody@refused.test", "later@deferred.test"
CONTENTS = contents.each()
WAYS = ("in the clear, without AUTH", "STARTTLS and AUTH PLAIN", "TLS from the start and AUTH LOGIN")


@pytest.fixture(params=WAYS)
async def relay(request: pytest.FixtureRequest, server: MailServer) -> AsyncIterator[Hands]:
    urls = (server.url, server.submission_url, server.submissions_url)
    async with hands(dict(zip(WAYS, urls, strict=True))[request.param]) as ours:
        yield ours


def short() -> bytes:
    return contents.composed(text=f"Hello {secrets.token_hex(8)}\n")


def message_id(content: bytes) -> str:
    (line,) = re.findall(rb"^message-id: (\S+)\r$", content[:5000], re.IGNORECASE | re.MULTILINE)
    return line.decode().lower()


def difference(arrived: bytes, written: bytes) -> tuple[int, bytes, bytes] | None:
    """Where it begins, and the two sides of it."""
    if arrived == written:
        return None
    places = (place for place, pair in enumerate(zip(arrived, written, strict=False)) if pair[0] != pair[1])
    place = next(places, min(len(arrived), len(written)))
    return place, arrived[place : place + 80], written[place : place + 80]


@pytest.mark.parametrize("name", CONTENTS)
async def test_a_mail_arrives_as_it_was_written(server: MailServer, relay: Hands, name: str) -> None:
    content = CONTENTS[name].replace(b"Message-ID: <", f"Message-ID: <{secrets.token_hex(4)}".encode())
    handed = await relay.over(content, ADA, BOB)
    assert handed.decisive.accepted
    arrived = await server.wait_for(message_id(content), copies=2)
    assert {mail.recipient for mail in arrived} == {ADA, BOB}
    whole = content if content.endswith(b"\r\n") else content + b"\r\n"
    assert [difference(mail.content, whole) for mail in arrived] == [None, None]


async def test_several_mails_go_through_one_connection_each_to_its_own_recipient(
    server: MailServer, relay: Hands
) -> None:
    mails = {f"user{number}@example.test": short() for number in range(5)}
    conversations = [(await relay.over(content, email)).conversation for email, content in mails.items()]
    assert [text.count("connected to 127.0.0.1") for text in conversations] == [1, 0, 0, 0, 0]
    for email, content in mails.items():
        (arrived,) = await server.wait_for(message_id(content))
        assert (arrived.recipient, arrived.content) == (email, content)


async def test_who_is_refused_or_put_off_keeps_nobody_else_from_getting_the_mail(
    server: MailServer, relay: Hands
) -> None:
    content = short()
    handed = await relay.over(content, ADA, REFUSED, BOB, LATER)
    assert {email: (said.phase, said.reply.code) for email, said in handed.said.items()} == {
        ADA: (Phase.DOT, 250),
        REFUSED: (Phase.RCPT, 550),
        BOB: (Phase.DOT, 250),
        LATER: (Phase.RCPT, 450),
    }
    assert {mail.recipient for mail in await server.wait_for(message_id(content), copies=2)} == {ADA, BOB}


async def test_a_mail_that_nobody_may_get_leaves_its_connection_in_step(server: MailServer, relay: Hands) -> None:
    refused, taken = short(), short()
    handed = await relay.over(refused, REFUSED, LATER)
    assert [said.reply.code for said in handed.said.values()] == [550, 450]
    assert handed.journaled == 0
    await resets_answered(relay.pool)
    after = await relay.over(taken, ADA)
    assert after.decisive.accepted
    assert "connected to" not in after.conversation
    await server.wait_for(message_id(taken))
    assert server.delivered(message_id(refused)) == []


async def test_a_mail_is_found_in_the_relays_log_by_its_queue_id(server: MailServer, relay: Hands) -> None:
    content = short()
    handed = await relay.over(content, ADA)
    (arrived,) = await server.wait_for(message_id(content))
    assert handed.queue_id is not None
    assert handed.queue_id.encode() in arrived.trace


async def test_an_address_beyond_ascii_goes_to_a_relay_that_takes_it_and_to_no_other(
    server: MailServer, relay: Hands
) -> None:
    content = short()
    handed = await relay.over(content, "zoë@example.test")
    if server.name == "opensmtpd":
        assert (handed.decisive.kind, handed.decisive.reply.enhanced) == (Kind.NO_SMTPUTF8, "5.6.7")
        assert server.delivered(message_id(content)) == []
    else:
        assert handed.decisive.accepted
        (arrived,) = await server.wait_for(message_id(content))
        assert (arrived.recipient, arrived.content) == ("zoë@example.test", content)


async def test_a_mail_larger_than_the_relay_takes_is_not_offered_to_it(relay: Hands) -> None:
    handed = await relay.over(contents.raw(b"x" * 76 + b"\r\n") * 140_000, ADA)
    assert (handed.decisive.kind, handed.journaled) == (Kind.TOO_LARGE, 0)


async def test_the_password_goes_once_by_a_mechanism_that_is_offered_and_is_not_written_down(
    server: MailServer,
) -> None:
    only_login = server.name in {"postfix", "exim"}
    for url, mechanism in (
        (server.submission_url, "PLAIN"),
        (server.submissions_url, "LOGIN" if only_login else "PLAIN"),
    ):
        async with hands(url) as ours:
            handed = await ours.over(short(), ADA)
        assert handed.decisive.accepted
        assert f"> AUTH {mechanism} ***\n" in handed.conversation
        assert handed.conversation.count("> AUTH") == 1


async def test_a_wrong_password_is_one_failure_and_nothing_is_sent(server: MailServer) -> None:
    for url in (server.submission_url, server.submissions_url):
        async with hands(url.replace("s3cret", "wrong")) as ours:
            handed = await ours.over(short(), ADA)
        assert (handed.decisive.phase, handed.decisive.reply.code) == (Phase.AUTH, 535)
        assert (handed.conversation.count("> AUTH"), handed.conversation.count("> MAIL")) == (1, 0)
        assert "wrong" not in handed.conversation


async def test_a_relay_whose_certificate_is_not_known_gets_neither_password_nor_mail(
    server: MailServer, tmp_path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    for url in (server.submission_url, server.submissions_url):
        async with hands(url.replace(quote(str(server.ca_file)), quote(str(tmp_path / "ca.pem")))) as ours:
            handed = await ours.over(short(), ADA)
        assert (handed.decisive.phase, handed.decisive.kind) == (Phase.TLS, Kind.CERTIFICATE)
        assert "> AUTH" not in handed.conversation


async def test_a_relay_that_wants_tls_and_a_password_says_so_to_who_comes_without(server: MailServer) -> None:
    async with hands(f"smtp://127.0.0.1:{server.submission_port}?tls=none") as ours:
        handed = await ours.over(short(), ADA)
    assert (handed.decisive.reply.code, handed.journaled) == (530, 0)
