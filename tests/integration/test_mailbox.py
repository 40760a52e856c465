"""The mailbox: what is sent to its SMTP port is there to be looked at, and whoever waits for it is told at once."""

import asyncio
import smtplib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiosmtplib
import httpx
import pytest

from cli.mailbox import MAX_MESSAGE_BYTES, reply_on_purpose, serve_mailbox
from mailer.errors import QueueUnavailable
from mailer.server import parse_queue_url
from mailer.store import keys
from mailer.store.connection import RedisClient, connect
from mailer.store.mailbox import KEPT, MailboxStore
from tests.support.waiting import until

JOB = "7c1f0f3d2f4e4fd0a50c0f6cbbd6ff9e"


def mail(subject: str = "Hello", job: str | None = None, html: str | None = None) -> bytes:
    head = f"From: Acme <hello@acme.test>\r\nTo: Ada <ada@x.test>\r\nSubject: {subject}\r\n"
    if job:
        head += f"Message-ID: <{job}@mail.acme.test>\r\n"
    if html is None:
        return f"{head}\r\nHi Ada\r\n".encode()
    return f"{head}MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n".encode()


@pytest.fixture
def mailbox(redis: RedisClient) -> MailboxStore:
    return MailboxStore(redis)


@pytest.fixture
async def port(mailbox: MailboxStore) -> AsyncIterator[int]:
    async with serve_mailbox(mailbox, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def send(port: int, raw: bytes, *recipients: str) -> None:
    everybody = list(recipients) or ["ada@x.test"]
    await aiosmtplib.send(raw, sender="bounces@acme.test", recipients=everybody, hostname="127.0.0.1", port=port)


async def listening(redis: RedisClient) -> None:
    """Until somebody waits for arrivals."""

    async def somebody() -> bool:
        return bool((await redis.pubsub_numsub(keys.MAILBOX_ARRIVALS))[0][1])

    await until(somebody, what="a wait")


class TestSending:
    async def test_a_mail_is_captured_as_it_was_sent(self, port: int, mailbox: MailboxStore) -> None:
        raw = mail(job=JOB) + b".a line that begins with a dot\r\n"
        await send(port, raw, "ada@x.test", "bcc@x.test")
        (summary,) = await mailbox.list(10)
        captured = await mailbox.get(summary.id)
        assert captured is not None
        assert captured.raw == raw
        assert (summary.mail_from, summary.rcpt_tos) == ("bounces@acme.test", ("ada@x.test", "bcc@x.test"))
        assert (summary.subject, summary.job_id, summary.size) == ("Hello", JOB, len(raw))

    async def test_addresses_beyond_ascii_are_taken(self, port: int, mailbox: MailboxStore) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as client:
            await client.sendmail("jürgen@x.test", ["ädä@x.test"], mail(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        (summary,) = await mailbox.list(10)
        assert (summary.mail_from, summary.rcpt_tos) == ("jürgen@x.test", ("ädä@x.test",))

    async def test_a_bounce_has_an_empty_sender(self, port: int, mailbox: MailboxStore) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as client:
            await client.sendmail("", ["ada@x.test"], mail())
        (summary,) = await mailbox.list(10)
        assert summary.mail_from == ""

    @pytest.mark.parametrize(
        ("address", "reply"),
        [
            ("defer+451@x.test", 451),
            ("Bounce+550@anything.example", 550),
            ("defer+421@x.test", 421),
            ("bounce+599@x.test", 599),
        ],
    )
    async def test_an_address_may_ask_to_be_refused(self, port: int, address: str, reply: int) -> None:
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refused:
            await send(port, mail(), address)
        (error,) = refused.value.recipients
        assert (error.code, "on purpose" in error.message) == (reply, True)

    @pytest.mark.parametrize(
        "address", ["defer+551@x.test", "bounce+451@x.test", "defer@x.test", "my-defer+451@x.test"]
    )
    def test_other_addresses_are_simply_taken(self, address: str) -> None:
        assert reply_on_purpose(address) is None

    async def test_the_others_get_the_mail_that_one_refuses(self, port: int, mailbox: MailboxStore) -> None:
        await send(port, mail(), "ada@x.test", "bounce+550@x.test")
        (summary,) = await mailbox.list(10)
        assert summary.rcpt_tos == ("ada@x.test",)

    async def test_a_mail_that_is_too_large_is_refused_before_it_is_sent(self, port: int) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as client:
            with pytest.raises(aiosmtplib.SMTPSenderRefused) as refused:
                await client.mail("a@x.test", options=[f"SIZE={MAX_MESSAGE_BYTES + 1}"])
        assert refused.value.code == 552

    async def test_without_the_queue_server_the_sender_is_asked_to_try_again(self, tmp_path: Path) -> None:
        async with (
            connect(parse_queue_url(f"unix://{tmp_path}/nobody.sock")) as away,
            serve_mailbox(MailboxStore(away), "127.0.0.1", 0) as server,
        ):
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await send(server.sockets[0].getsockname()[1], mail())
        assert (refused.value.code, refused.value.message[:5]) == (451, "4.3.0")

    async def test_a_port_in_use_is_said(self, mailbox: MailboxStore) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
            async with serve_mailbox(mailbox, "127.0.0.1", taken.getsockname()[1]):
                pytest.fail("it listened")

    async def test_stopping_ends_open_sessions(self, mailbox: MailboxStore) -> None:
        async with serve_mailbox(mailbox, "127.0.0.1", 0) as server:
            client = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.sockets[0].getsockname()[1])
            await client.connect()
        with pytest.raises((aiosmtplib.SMTPServerDisconnected, smtplib.SMTPServerDisconnected)):
            await client.noop()


class TestKeeping:
    async def test_the_newest_500_are_kept_and_nothing_else(self, mailbox: MailboxStore, redis: RedisClient) -> None:
        first = await mailbox.add(mail("0"), "", ())
        for number in range(1, KEPT + 3):
            await mailbox.add(mail(str(number)), "", ())
        assert await mailbox.get(first) is None
        assert await redis.zcard(keys.MAILBOX) == KEPT
        assert await redis.dbsize() == KEPT + 2
        (newest,) = await mailbox.list(1)
        assert newest.subject == str(KEPT + 2)

    async def test_a_list_goes_on_where_the_last_page_ended(self, mailbox: MailboxStore) -> None:
        for number in range(5):
            await mailbox.add(mail(str(number)), "", ())
        page = await mailbox.list(2)
        rest = await mailbox.list(10, before=page[-1].number)
        assert [item.subject for item in (*page, *rest)] == ["4", "3", "2", "1", "0"]
        assert [item.subject for item in await mailbox.list(10, since=page[-1].number)] == ["4"]

    async def test_a_queue_server_that_is_away_is_named(self, tmp_path: Path) -> None:
        async with connect(parse_queue_url(f"unix://{tmp_path}/nobody.sock")) as away:
            with pytest.raises(QueueUnavailable):
                await MailboxStore(away).wait(lambda _: True, timeout_s=5)


class TestWaiting:
    async def test_mail_that_is_here_is_answered_at_once(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        await mailbox.add(mail("first"), "", ())
        await mailbox.add(mail("second"), "", ())
        answer = await api.get("/mailbox/wait", params={"timeout": 0})
        assert (answer.status_code, answer.json()["subject"]) == (200, "second")

    async def test_mail_that_comes_later_ends_the_wait(
        self, api: httpx.AsyncClient, mailbox: MailboxStore, redis: RedisClient
    ) -> None:
        """Longer than any reply to a command may take."""
        waiting = asyncio.create_task(api.get("/mailbox/wait", params={"job": JOB, "timeout": 30}))
        await listening(redis)
        await mailbox.add(mail("another"), "", ())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 2)
        await mailbox.add(mail("awaited", job=JOB), "", ())
        answer = await asyncio.wait_for(waiting, 2)
        assert (answer.json()["subject"], answer.json()["links"]["job"]) == ("awaited", f"/jobs/{JOB}")

    async def test_no_moment_is_missed_between_looking_and_waiting(self, mailbox: MailboxStore) -> None:
        for number in range(50):
            wanted = str(number)
            waiting = mailbox.wait(lambda item, wanted=wanted: item.subject == wanted, timeout_s=5)
            found, _ = await asyncio.gather(waiting, mailbox.add(mail(wanted), "", ()))
            assert found is not None

    async def test_a_wait_outlives_its_connection(self, mailbox: MailboxStore, redis: RedisClient) -> None:
        waiting = asyncio.create_task(mailbox.wait(lambda _: True, timeout_s=10))
        await listening(redis)
        await redis.client_kill_filter(_type="pubsub")
        await mailbox.add(mail(), "", ())
        assert await asyncio.wait_for(waiting, 5) is not None

    async def test_nothing_in_time_is_a_problem_of_its_own(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/mailbox/wait", params={"timeout": 0.05})
        assert (answer.status_code, answer.json()["code"]) == (404, "no_mail_yet")

    @pytest.mark.parametrize(
        ("asked", "subject"),
        [
            ({"to": "ADA@x.test"}, "Welcome, Ada"),
            ({"subject": "welcome"}, "Welcome, Bob"),
            ({"to": "bob@x.test", "subject": "welcome"}, "Welcome, Bob"),
            ({"job": JOB}, "Welcome, Ada"),
            ({"to": "hidden@x.test"}, "Receipt"),
        ],
    )
    async def test_every_filter_must_fit(
        self, api: httpx.AsyncClient, mailbox: MailboxStore, asked: dict[str, str], subject: str
    ) -> None:
        await mailbox.add(mail("Welcome, Ada", job=JOB), "", ("Ada@x.test",))
        await mailbox.add(mail("Welcome, Bob"), "", ("bob@x.test",))
        await mailbox.add(mail("Receipt"), "", ("cy@x.test", "hidden@x.test"))
        answer = await api.get("/mailbox/wait", params={**asked, "timeout": 0})
        assert answer.json()["subject"] == subject

    async def test_since_skips_what_was_seen(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        await mailbox.add(mail("seen"), "", ())
        number = (await api.get("/mailbox/wait")).json()["number"]
        answer = await api.get("/mailbox/wait", params={"since": number, "timeout": 0.05})
        assert answer.status_code == 404
        await mailbox.add(mail("new"), "", ())
        answer = await api.get("/mailbox/wait", params={"since": number})
        assert answer.json()["subject"] == "new"

    async def test_an_emptied_server_does_not_leave_a_page_waiting_for_ever(
        self, api: httpx.AsyncClient, mailbox: MailboxStore
    ) -> None:
        await mailbox.add(mail("after the reset"), "", ())
        answer = await api.get("/mailbox/wait", params={"since": 4711, "timeout": 0})
        assert answer.json()["subject"] == "after the reset"

    async def test_the_timeout_has_a_limit(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/mailbox/wait", params={"timeout": 61})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


class TestReading:
    async def test_a_list_is_newest_first_and_paged(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        for number in range(3):
            await mailbox.add(mail(str(number)), "", ())
        page = (await api.get("/mailbox/messages", params={"limit": 2})).json()
        assert [item["subject"] for item in page["data"]] == ["2", "1"]
        rest = (await api.get("/mailbox/messages", params={"limit": 2, "after": page["next"]})).json()
        assert ([item["subject"] for item in rest["data"]], rest["next"]) == (["0"], None)

    async def test_a_mail_is_shown_in_its_parts(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        message_id = await mailbox.add(mail(job=JOB, html="<p>Hi</p>"), "a@x.test", ("ada@x.test", "bcc@x.test"))
        shown = (await api.get(f"/mailbox/messages/{message_id}")).json()
        assert shown["from"] == {"email": "hello@acme.test", "name": "Acme"}
        assert shown["to"] == [{"email": "ada@x.test", "name": "Ada"}]
        assert shown["envelope"] == {"mail_from": "a@x.test", "rcpt_tos": ["ada@x.test", "bcc@x.test"]}
        assert (shown["text"], shown["html"]) == (None, "<p>Hi</p>\n")
        assert [item["name"] for item in shown["headers"]][:3] == ["From", "To", "Subject"]
        assert (shown["job_id"], shown["links"]["job"]) == (JOB, f"/jobs/{JOB}")

    async def test_the_raw_mail_is_what_was_sent(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        raw = b"Subject: \xff\r\n\r\n\0\r\n"
        answer = await api.get(f"/mailbox/messages/{await mailbox.add(raw, '', ())}/raw")
        assert (answer.content, answer.headers["content-type"]) == (raw, "message/rfc822")
        assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_the_text_is_plain_whatever_it_says(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        answer = await api.get(f"/mailbox/messages/{await mailbox.add(mail(), '', ())}/text")
        assert (answer.text, answer.headers["content-type"]) == ("Hi Ada\n", "text/plain; charset=utf-8")
        assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_the_html_can_run_and_load_nothing(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        message_id = await mailbox.add(mail(html="<script>steal()</script>"), "", ())
        answer = await api.get(f"/mailbox/messages/{message_id}/html")
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert "allow-scripts" not in policy["sandbox"]
        assert "allow-same-origin" not in policy["sandbox"]
        assert (policy["default-src"], policy["img-src"]) == ("'none'", "data: cid:")
        assert (policy["frame-ancestors"], answer.headers["x-frame-options"]) == ("'self'", "SAMEORIGIN")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize("path", ["nowhere", "nowhere/html", "nowhere/text", "nowhere/raw"])
    async def test_an_unknown_mail_is_not_found(self, api: httpx.AsyncClient, path: str) -> None:
        answer = await api.get(f"/mailbox/messages/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    async def test_a_mail_without_html_says_so(self, api: httpx.AsyncClient, mailbox: MailboxStore) -> None:
        answer = await api.get(f"/mailbox/messages/{await mailbox.add(mail(), '', ())}/html")
        assert (answer.status_code, answer.json()["detail"]) == (404, "This mail has no html.")


class TestPage:
    async def test_an_empty_mailbox_shows_how_to_send_the_first_mail(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/mailbox")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "No mail yet" in answer.text
        assert f"curl -s {api.base_url.netloc.decode()}/jobs" in answer.text

    async def test_list_and_mail_are_readable_without_a_script(
        self, api: httpx.AsyncClient, mailbox: MailboxStore
    ) -> None:
        message_id = await mailbox.add(mail("A subject"), "", ("ada@x.test",))
        assert f'href="/mailbox/{message_id}"' in (await api.get("/mailbox")).text
        opened = await api.get(f"/mailbox/{message_id}")
        assert "Hi Ada" in opened.text
        assert "Acme &lt;hello@acme.test&gt;" in opened.text
        assert "Subject: A subject" in (await api.get(f"/mailbox/{message_id}?view=source")).text

    async def test_the_page_takes_scripts_and_styles_from_here_only(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/mailbox")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        for path in ("mailbox.js", "mailbox.css", "mark.svg"):
            assert f"/static/pages/{path}" in answer.text
            assert (await api.get(f"/static/pages/{path}")).status_code == 200

    async def test_a_mail_that_is_gone_is_said(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/mailbox/nowhere")
        assert answer.status_code == 404
        assert "not here any more" in answer.text
