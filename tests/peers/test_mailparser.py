"""The mailparser of Node, an independent reader, sees what the author wrote."""

import base64
import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.addresses import Address, make_address
from mailer.compose import Message, compose

HERE = Path(__file__).parent
READY = shutil.which("node") and (HERE / "node_modules" / "mailparser").is_dir()
pytestmark = pytest.mark.skipif(not READY, reason="node or its mailparser is missing: install node, run `make peers`")

MAIL = Message(
    job_id="01JZ4YQ8W8Z6",
    message_id_domain="mail.acme.example",
    date=datetime(2026, 7, 1, 12, 5, 9, tzinfo=UTC),
    sender=Address("hello@acme.example", "Acme"),
    to=(Address("ada@example.com", "Ada Lovelace"),),
    subject="Welcome",
    html="<p>Hello</p>",
    text="Hello",
)
NAMES = [
    *(
        None,
        "Ada",
        "Ada Lovelace",
        "Lovelace, Ada",
        "eve@evil.example, Ada",
        "Ada <eve@evil.example>",
        "Zoë",
        "漢字 かな",
    ),
    *(
        'Ada "the Countess"',
        "back\\slash",
        "=?utf-8?q?Eve_=3Ceve=40evil.example=3E?=",
        "Ada (comment)",
        "g: x@y.example;",
    ),
    *("Zoë, Ünal <eve@evil.example>", "J. R. Tolkien", "😀" * 40, "a" * 200, "O'Neil & Söhne"),
]
EMAILS = ["ada@example.com", "first.last+tag@example.com", "x@xn--bcher-kva.example", "l" * 64 + "@example.com"]
SUBJECTS = [
    *("Hello", "Grüße aus Köln", "漢字" * 40, "😀" * 30, "=?utf-8?q?Hi=0D=0ABcc:_eve@evil.example?=", "x" * 300),
    *(
        "=?utf-8?b?SGVsbG8NCkJjYzogZXZlQGV2aWwuZXhhbXBsZQ==?=",
        "two  spaces",
        "word " * 40 + "end",
        "a_b=c?d",
        "é =?x?=",
    ),
    *("Bcc: eve@evil.example", "100 % = all, or?", '"quoted" \\ back', "a: b; c, <d@e.example>"),
]
BODIES = [
    *(
        "Hello",
        "From me\nFrom you\n.\n..\nend",
        "x" * 2000,
        "=_ --=_alternative.01JZ4YQ8W8Z6--\n--=_alternative.01JZ4YQ8W8Z6",
    ),
    *(
        "trailing \t\nspaces  \n",
        "Grüße\r\naus\rKöln\n",
        "漢字" * 300,
        "=3D =\n= =20",
        "x" * 75 + ".\n" + "y" * 74 + "From z",
    ),
    *("\n\n\nlines\n\n\n", "<p style='a=b'>é</p>\n" * 50, "x " * 400, "." + "." * 200, "From " * 40),
]
HARD = [
    *(replace(MAIL, subject=subject) for subject in SUBJECTS),
    *(replace(MAIL, to=(Address("ada@example.com", name),), sender=Address("a@b.example", name)) for name in NAMES),
    *(replace(MAIL, text=body) for body in BODIES),
    *(replace(MAIL, text=None, html=body) for body in BODIES),
    *(replace(MAIL, html=None, text=body) for body in BODIES),
    *(replace(MAIL, headers=(("X-Tag", subject),)) for subject in SUBJECTS),
    replace(MAIL, to=()),
    replace(MAIL, to=tuple(Address(f"n{n}@example.com", f"Number, {n}") for n in range(60))),
    replace(MAIL, to=(Address("zoë@example.com", "Zoë"),)),
]


def random_mail(source: random.Random) -> Message:
    def words(pieces: list[str]) -> str:
        return " ".join(source.choices(pieces, k=source.randint(1, 12)))

    def people(least: int) -> tuple[Address, ...]:
        count = source.randint(least, 6)
        return tuple(Address(source.choice(EMAILS), source.choice(NAMES)) for _ in range(count))

    pieces = [
        "a",
        "word",
        "é",
        "漢",
        "😀",
        "=?utf-8?q?x?=",
        "=",
        "?=",
        "x" * 70,
        ",",
        "<",
        ">",
        '"',
        "\\",
        ":",
        "(",
        "=20",
    ]
    return replace(
        MAIL,
        sender=people(1)[0],
        to=people(1),
        cc=people(0),
        subject=words(pieces),
        headers=(("X-Tag", words(pieces)),),
        text="\n".join(words([*pieces, ".", "From ", " "]) for _ in range(source.randint(1, 20))),
        html=source.choice([None, words(pieces) * 30]),
    )


def as_lines(text: str) -> str:
    """mailparser ends lines with LF."""
    return re.sub(r"\r\n|\r|\n", "\n", text).removesuffix("\n")


def expected(mail: Message) -> dict[str, object]:
    def people(addresses: tuple[Address, ...]) -> list[dict[str, str]]:
        return [{"email": address.email, "name": address.name or ""} for address in addresses]

    keys = ["date", "from", "to", *(["cc"] if mail.cc else []), "subject", "message-id", "auto-submitted"]
    return {
        "subject": mail.subject,
        "from": people((mail.sender,)),
        "to": people(mail.to),
        "cc": people(mail.cc),
        "text": None if mail.text is None else as_lines(mail.text),
        "html": None if mail.html is None else as_lines(mail.html),
        "tag": mail.headers[0][1] if mail.headers else None,
        "headers": [*keys, "mime-version", *(name.lower() for name, _ in mail.headers), "content-type"],
        "attachments": 0,
    }


def seen(parsed: dict[str, object], mail: Message) -> dict[str, object]:
    headers = [key for key in parsed["headers"] if key != "content-transfer-encoding"]  # a matter of the encoding
    text, html = ((None if body is None else body.removesuffix("\n")) for body in (parsed["text"], parsed["html"]))
    people = {  # it shows domains in U-labels
        field: [box | {"email": make_address(box["email"], None).email} for box in parsed[field]]
        for field in ("from", "to", "cc")
    }
    return parsed | people | {"headers": headers, "text": text, "html": html}


def test_another_languages_parser_reads_each_mail_as_it_was_written():
    source = random.Random(20260701)
    mails = [*HARD, *(random_mail(source) for _ in range(100))]
    lines = b"\n".join(base64.b64encode(compose(mail)) for mail in mails)
    done = subprocess.run(
        [shutil.which("node"), HERE / "parse.mjs"], input=lines, capture_output=True, check=True, timeout=50
    )
    parsed = json.loads(done.stdout)
    assert len(parsed) == len(mails)
    for mail, got in zip(mails, parsed, strict=True):
        assert seen(got, mail) == expected(mail), mail
