"""Certificates of relays, and our own: which are believed, which are shown, and what is said of a file of no use."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from mailer.errors import SettingsError
from worker.relays.relay import Relay, relays_from
from worker.settings import WorkerProcessSettings

RELAY = "relay.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    mine, other = authority.issue_cert("client.example"), authority.issue_cert("other.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "stranger.pem")
    mine.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    mine.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    (folder / "empty.pem").write_bytes(b"")
    (folder / "broken-cert.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "broken-key.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    os.mkfifo(folder / "pipe.pem")
    return folder


def relay(folder: Path, *, host: str = RELAY, **options: str) -> Relay:
    """Written beside the files it names."""
    config = folder / "postroom.toml"
    lines = [f'{name} = "{value}"' for name, value in options.items()]
    config.write_text("\n".join(["[[relays]]", f'url = "smtp://{host}"', *lines]))
    (only,) = relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": str(config)}))
    return only


def server(authority: trustme.CA, *, asks: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(RELAY).configure_cert(context)
    if asks is not None:
        asks.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def shake_hands(ours: Relay, theirs: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection, made in memory; raises what either of them has against the other."""
    context = ours.tls_context()
    assert context is not None
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up, server_hostname=ours.host)
    relay_end = theirs.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for end in (client, relay_end):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client, relay_end


def test_the_authority_of_the_file_is_believed_and_the_systems_are_not(files, authority):
    client, _ = shake_hands(relay(files, ca_file="ca.pem"), server(authority))
    assert client.version() in {"TLSv1.2", "TLSv1.3"}
    for stranger in (relay(files, ca_file="stranger.pem"), relay(files)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(stranger, server(authority))
    context = relay(files, ca_file="stranger.pem").tls_context()
    assert context is not None
    assert context.cert_store_stats()["x509"] == 1


def test_the_certificate_is_for_the_relays_name(files, authority):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(relay(files, host="other.example", ca_file="ca.pem"), server(authority))


def test_a_relays_own_certificate_may_be_the_one_to_believe(files, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own = authority.issue_cert(RELAY)
    own.configure_cert(context)
    own.cert_chain_pems[0].write_to_path(files / "own.pem")
    shake_hands(relay(files, ca_file="own.pem"), context)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(relay(files, ca_file="own.pem"), server(authority))


@pytest.mark.parametrize("own", [{"cert_file": "cert.pem", "key_file": "key.pem"}, {"cert_file": "both.pem"}])
def test_a_relay_that_asks_for_a_certificate_gets_ours(files, authority, own):
    _, relay_end = shake_hands(relay(files, ca_file="ca.pem", **own), server(authority, asks=authority))
    shown = relay_end.getpeercert()
    assert shown is not None
    assert shown["subjectAltName"] == (("DNS", "client.example"),)


def test_tls_is_at_least_1_2(files, authority):
    theirs = server(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        theirs.minimum_version = theirs.maximum_version = ssl.TLSVersion.TLSv1_1
    theirs.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shake_hands(relay(files, ca_file="ca.pem"), theirs)
    for context in (relay(files).tls_context(), relay(files, ca_file="ca.pem").tls_context()):
        assert context is not None
        assert (context.minimum_version, context.check_hostname) == (ssl.TLSVersion.TLSv1_2, True)


def test_a_relay_without_tls_has_no_context(files):
    assert relay(files, tls="none").tls_context() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ca_file": "none.pem"}, "ca_file FILES/none.pem cannot be read (No such file or directory)"),
        ({"ca_file": "."}, "ca_file FILES is not a file"),
        ({"ca_file": "pipe.pem"}, "ca_file FILES/pipe.pem is not a file"),
        ({"ca_file": "empty.pem"}, "ca_file FILES/empty.pem holds no certificate in PEM form"),
        ({"ca_file": "key.pem"}, "ca_file FILES/key.pem holds no certificate in PEM form"),
        ({"ca_file": "broken-cert.pem"}, "ca_file FILES/broken-cert.pem is not a bundle of PEM certificates"),
        ({"cert_file": "none.pem"}, "cert_file FILES/none.pem cannot be read (No such file or directory)"),
        ({"cert_file": "cert.pem"}, "cert_file FILES/cert.pem holds no private key in PEM form"),
        ({"cert_file": "key.pem"}, "cert_file FILES/key.pem holds no certificate in PEM form"),
        ({"cert_file": "cert.pem", "key_file": "none.pem"}, "key_file FILES/none.pem cannot be read"),
        ({"cert_file": "cert.pem", "key_file": "cert.pem"}, "key_file FILES/cert.pem holds no private key"),
        ({"cert_file": "cert.pem", "key_file": "other.pem"}, "key_file FILES/other.pem: the key does not belong to"),
        (
            {"cert_file": "cert.pem", "key_file": "broken-key.pem"},
            "FILES/cert.pem and its key cannot be used",
        ),
        ({"cert_file": "broken-cert.pem", "key_file": "key.pem"}, "FILES/broken-cert.pem and its key cannot be used"),
        ({"key_file": "key.pem"}, "key_file needs a cert_file"),
        ({"tls": "none", "cert_file": "both.pem"}, "cert_file is for TLS, and tls is none"),
    ],
)
def test_a_file_of_no_use_is_named_with_its_option(files, options, said):
    with pytest.raises(SettingsError, match=r"^\S+/postroom.toml: relays\[0\]\.") as caught:
        relay(files, **options)
    assert said in str(caught.value).replace(str(files), "FILES")
    query = "&".join(f"{name}={files / value if name != 'tls' else value}" for name, value in options.items())
    with pytest.raises(SettingsError, match=r"^POSTROOM_SMTP_URL: ") as caught:
        relays_from(WorkerProcessSettings.load({"POSTROOM_SMTP_URL": f"smtp://{RELAY}?{query}"}))
    assert said in str(caught.value).replace(str(files), "FILES")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named_with_its_option(files):
    (files / "locked.pem").write_bytes((files / "ca.pem").read_bytes())
    (files / "locked.pem").chmod(0)
    with pytest.raises(SettingsError, match=r"ca_file \S+/locked.pem cannot be read \(Permission denied\)"):
        relay(files, ca_file="locked.pem")


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(files):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"hunter2"))
        (files / "encrypted.pem").write_bytes(locked)
        with pytest.raises(SettingsError, match=r"relays\[0\]\.key_file \S+/encrypted.pem is encrypted"):
            relay(files, cert_file="cert.pem", key_file="encrypted.pem")


def test_a_file_that_is_gone_by_the_time_it_is_used_is_named_with_its_relay(files):
    (files / "brief.pem").write_bytes((files / "ca.pem").read_bytes())
    found = relay(files, ca_file="brief.pem", name="ses")
    (files / "brief.pem").unlink()
    with pytest.raises(SettingsError, match=r"^ses: ca_file \S+/brief.pem cannot be read"):
        found.tls_context()
