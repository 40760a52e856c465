"""A relay of the file, on a real socket: it shows a certificate of our own authority, and asks for ours."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from mailer.addresses import Address
from mailer.jobs import Phase, Reply
from tests.support.smtp import ScriptedRelay, scripted_relay
from worker.relays.answers import Answer
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.transaction import Envelope
from worker.settings import WorkerProcessSettings

MAIL = Envelope(Address("hello@postroom.example"), (Address("ada@example.com"),), b"Subject: Hi\r\n\r\nHi\r\n")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert("postroom.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    return ca


def asking_server(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def answer(folder: Path, url: str, **options: str) -> Answer:
    file = folder / "postroom.toml"
    lines = [f'{name} = "{value}"' for name, value in options.items()]
    file.write_text("\n".join(["[[relays]]", f'url = "{url}"', *lines]))
    (relay,) = relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": str(file)}))
    pool = Pool(relay)
    try:
        return (await pool.send(MAIL, _heard)).verdicts.decisive
    finally:
        await pool.close()


async def _heard(_: Mapping[str, Reply]) -> None:
    """Nothing to journal."""


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp", False), ("smtps", True)])
async def test_a_relay_that_asks_for_our_certificate_takes_the_mail(
    tmp_path: Path, authority: trustme.CA, scheme: str, implicit: bool
) -> None:
    relay = ScriptedRelay(extensions=[] if implicit else ["STARTTLS"], tls=asking_server(authority))
    async with scripted_relay(relay, implicit_tls=implicit):
        said = await answer(tmp_path, f"{scheme}://localhost:{relay.port}", ca_file="ca.pem", cert_file="own.pem")
    assert (said.phase, said.reply.code, len(relay.received)) == (Phase.DOT, 250, 1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ca_file": "ca.pem"}, "we have no certificate"),
        ({"cert_file": "own.pem"}, "the system knows no such authority"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_without_one_or_the_other_nothing_is_said_to_it(
    tmp_path: Path, authority: trustme.CA, options: dict[str, str], why: str
) -> None:
    relay = ScriptedRelay(extensions=["STARTTLS"], tls=asking_server(authority))
    async with scripted_relay(relay):
        said = await answer(tmp_path, f"smtp://localhost:{relay.port}", **options)
    assert (said.reply.code, relay.received) == (None, []), why
