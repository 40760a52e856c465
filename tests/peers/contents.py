"""Mails that have gone wrong somewhere before: composed as the worker composes, and raw ones that are harder."""

import secrets
from datetime import UTC, datetime

from mailer.addresses import Address
from mailer.compose import Message, compose

DOTS = ".\n..\n...\n.a\n..b\n\n.\n"
LONG = "Ein langer Absatz ohne Umbruch, mit Ümläuten. " * 60


def composed(*, text: str, html: str | None = None) -> bytes:
    return compose(
        Message(
            job_id=secrets.token_hex(8),
            message_id_domain="sender.test",
            date=datetime(2026, 7, 1, 12, 5, 9, tzinfo=UTC),
            sender=Address("hello@sender.test", "Zoë Groß"),
            to=(Address("ada@example.test", "Ada Lovelace, Countess"),),
            subject="Grüße aus Köln: 漢字, 😀 und ein Betreff, der viel zu lang ist, als dass er in eine Zeile passte",
            html=html,
            text=text,
            headers=(("X-Note", "ünï " * 40),),
        )
    )


def raw(body: bytes) -> bytes:
    """With lines that composing would have encoded."""
    header = f"Message-ID: <{secrets.token_hex(8)}@sender.test>\r\nFrom: hello@sender.test\r\n"
    return header.encode() + b"Date: Wed, 01 Jul 2026 12:05:09 +0000\r\n\r\n" + body


def each() -> dict[str, bytes]:
    html = f"<p>Grüße</p>\n<p>{LONG}</p>\n.\n<a href='https://example.test/?a=1&b={'x' * 1200}'>hier</a>\n"
    return {
        "a letter in two languages with a long subject": composed(text=f"{DOTS}\n{LONG}\nFrom here\n", html=html),
        "five megabytes": composed(text="".join(f"Zeile {number:07d} für Zoë\n" for number in range(170_000))),
        "nothing but dots": composed(text=DOTS * 300),
        "lines that begin with dots, unencoded": raw(b".\r\n..\r\n.\r\n...\r\n.a\r\n\r\n" * 20_000),
        "lines as long as they may be": raw(b"\r\n".join(b"." + b"x" * 997 for _ in range(300)) + b"\r\n"),
        "no line end at the end": raw(b"one\r\ntwo"),
        "no body at all": raw(b""),
    }
