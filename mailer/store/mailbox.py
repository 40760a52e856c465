"""The mailbox: captured mail, the newest 500, added by capture.lua. A list reads what was summed up at arrival.

Mails are numbered as they arrive; a number is the cursor of lists and waits. Raises QueueUnavailable.
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from redis.asyncio.client import PubSub

from mailer.reading import ReadAddress, clean, read_head
from mailer.store import keys
from mailer.store.connection import CALL_TIMEOUT_S, RedisClient, answered, command
from mailer.store.scripts import Script

KEPT = 500
_PAGE = 50
_SHOWN = ["number", "received_at", "summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a captured mail without reading it again."""

    id: str
    number: int
    received_at: int
    """Milliseconds by the server's clock."""
    size: int
    subject: str
    sender: ReadAddress | None
    to: tuple[ReadAddress, ...]
    job_id: str | None
    mail_from: str
    rcpt_tos: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Captured:
    summary: Summary
    raw: bytes


class MailboxStore:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._capture = Script(redis, "capture")

    async def add(self, raw: bytes, mail_from: str, rcpt_tos: tuple[str, ...]) -> str:
        """Keep a mail as its envelope and bytes say; returns its id."""
        message_id = uuid.uuid4().hex
        prefix = keys.mailbox_message("")
        await self._capture(
            [keys.MAILBOX, keys.MAILBOX_COUNTER, keys.mailbox_message(message_id)],
            [keys.MAILBOX_ARRIVALS, KEPT, prefix, message_id, _encode(raw, mail_from, rcpt_tos), raw],
        )
        return message_id

    async def list(self, limit: int, *, before: int | None = None, since: int = 0) -> tuple[Summary, ...]:
        """Newest first: at most `limit` that arrived after number `since` and before number `before`."""
        newest = "+inf" if before is None else f"({before}"
        ids = await command(self._redis, "ZREVRANGEBYSCORE", keys.MAILBOX, newest, f"({since}", "LIMIT", 0, limit)
        pipe = self._redis.pipeline(transaction=False)
        for message_id in ids:
            pipe.hmget(keys.mailbox_message(message_id.decode()), _SHOWN)
        rows = await answered(self._redis, pipe.execute())
        return tuple(
            _decode(message_id.decode(), row)
            for message_id, row in zip(ids, rows, strict=True)
            if row[0] is not None  # removed between the two commands
        )

    async def get(self, message_id: str) -> Captured | None:
        row = await command(self._redis, "HMGET", keys.mailbox_message(message_id), *_SHOWN, "raw")
        return None if row[0] is None else Captured(_decode(message_id, row), row[3] or b"")

    async def wait(self, wanted: Callable[[Summary], bool], *, since: int = 0, timeout_s: float) -> Summary | None:
        """The newest wanted mail that arrived after number `since`: at once if there is one, else as soon as it comes.

        None when `timeout_s` seconds are over.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with self._redis.pubsub() as arrivals:
            await answered(self._redis, arrivals.subscribe(keys.MAILBOX_ARRIVALS))
            # Only once the server says that we are subscribed is it sure that nothing slips in unseen below.
            await answered(self._redis, arrivals.get_message(timeout=CALL_TIMEOUT_S))
            since = await self._known_number(since)
            while True:
                found, since = await self._newest(wanted, since)
                if found is not None or not await self._heard(arrivals, deadline):
                    return found

    async def _known_number(self, since: int) -> int:
        """A number that is still to come was given by a server that has been emptied: then everything here is new."""
        newest = int(await command(self._redis, "GET", keys.MAILBOX_COUNTER) or 0)
        return since if since <= newest else 0

    async def _newest(self, wanted: Callable[[Summary], bool], since: int) -> tuple[Summary | None, int]:
        """The newest wanted one after `since`, and the number of the newest one seen."""
        seen, before = since, None
        while page := await self.list(_PAGE, before=before, since=since):
            seen, before = max(seen, page[0].number), page[-1].number
            for summary in page:
                if wanted(summary):
                    return summary, seen
        return None, seen

    async def _heard(self, arrivals: PubSub, deadline: float) -> bool:
        """False when the time is over. A renewed subscription counts as news: mail may have come while it was down."""
        while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            # With a timeout of its own, the read is not bound by the client's, which is for replies to commands.
            if await answered(self._redis, arrivals.get_message(timeout=left_s), left_s + CALL_TIMEOUT_S) is not None:
                return True
        return False


def _encode(raw: bytes, mail_from: str, rcpt_tos: tuple[str, ...]) -> bytes:
    head = read_head(raw)
    return orjson.dumps(
        {
            "size": len(raw),
            "subject": head.subject,
            "sender": head.sender,
            "to": head.to,
            "job_id": head.job_id,
            "mail_from": clean(mail_from),
            "rcpt_tos": [clean(rcpt) for rcpt in rcpt_tos],
        }
    )


def _decode(message_id: str, row: list[bytes | None]) -> Summary:
    number, received_at, packed = (value or b"" for value in row[:3])
    summary = orjson.loads(packed)
    sender = summary["sender"]
    return Summary(
        id=message_id,
        number=int(number),
        received_at=int(received_at),
        size=summary["size"],
        subject=summary["subject"],
        sender=ReadAddress(**sender) if sender else None,
        to=tuple(ReadAddress(**item) for item in summary["to"]),
        job_id=summary["job_id"],
        mail_from=summary["mail_from"],
        rcpt_tos=tuple(summary["rcpt_tos"]),
    )
