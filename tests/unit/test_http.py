"""No template and no value makes Postroom call a host that its operator did not name."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import CallFailed
from mailer.http import MAX_BODY_BYTES, GuardedClient, is_public
from tests.support.source import Application, application

INTERNAL_V4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.0.1",
    "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255",
]  # fmt: skip
INTERNAL_V6 = [
    "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "ff0e::1",
    "100::1", "2001:db8::1", "2001:2::1", "2001:10::1", "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b:1::1",
    "64:ff9b:1::8.8.8.8", "5f00::1", "4000::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "93.184.216.34", "100.63.255.255", "100.128.0.1", "126.1.1.1",
    "128.0.0.1", "169.253.1.1", "172.15.255.255", "172.32.0.1", "192.167.1.1", "192.169.0.1", "198.17.1.1",
    "198.20.0.1", "223.255.255.254", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::1",
    "2620:fe::fe",
]  # fmt: skip
PRIVATE_TO_CARRY = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1"]


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def carried(prefix: str, suffix: str, v4: str) -> ipaddress.IPv6Address:
    number = int(ipaddress.IPv4Address(v4))
    return ipaddress.IPv6Address(f"{prefix}{number >> 16:x}:{number & 0xFFFF:x}{suffix}")


def teredo(server: str, client: str) -> ipaddress.IPv6Address:
    """RFC 4380 4: the client's address is written with every bit turned."""
    hidden = int(ipaddress.IPv4Address(client)) ^ 0xFFFFFFFF
    number = int(ipaddress.IPv4Address(server))
    return ipaddress.IPv6Address((0x20010000 << 96) | (number << 64) | hidden)


@pytest.mark.parametrize("text", INTERNAL_V4 + INTERNAL_V6)
def test_an_internal_address_is_not_public(text):
    assert not is_public(address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_out_on_the_internet_is_public(text):
    assert is_public(address(text))


@pytest.mark.parametrize("v4", PRIVATE_TO_CARRY)
@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("::ffff:", ""),
        ("2002:", "::1"),
        ("64:ff9b::", ""),
        ("64:ff9b:1::", ""),
        ("fe80::5efe:", ""),
        ("2606:4700::5efe:", ""),
        ("2606:4700::200:5efe:", ""),
        ("::", ""),
        ("::ffff:0:", ""),
    ],
    ids=["mapped", "6to4", "NAT64", "local NAT64", "ISATAP", "ISATAP", "ISATAP", "compatible", "translated"],
)
def test_an_internal_address_inside_another_is_found(prefix, suffix, v4):
    assert not is_public(carried(prefix, suffix, v4))


@pytest.mark.parametrize("v4", PRIVATE_TO_CARRY)
def test_an_internal_address_inside_teredo_is_found(v4):
    assert not is_public(teredo("8.8.8.8", v4))
    assert not is_public(teredo(v4, "8.8.8.8"))


@pytest.mark.parametrize(("prefix", "suffix"), [("::ffff:", ""), ("64:ff9b::", ""), ("2606:4700::200:5efe:", "")])
def test_a_public_address_inside_another_is_public(prefix, suffix):
    assert is_public(carried(prefix, suffix, "8.8.8.8"))


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_never_makes_it_public(v4):
    wraps = [
        carried(prefix, suffix, str(v4)) for prefix, suffix in [("::ffff:", ""), ("64:ff9b::", ""), ("2002:", "::1")]
    ]
    assert all(is_public(v4) or not is_public(wrapped) for wrapped in wraps)


@pytest.fixture
def source():
    with application() as server:
        server.answers |= {"/x": {"a": 1}}
        yield server


def port(source: Application) -> str:
    return source.url.rpartition(":")[2]


async def test_a_host_that_the_operator_named_may_be_internal(source):
    async with GuardedClient(["127.0.0.1"]) as client:
        answer = await client.get(f"{source.url}/x", {"X-Test": "1"})
    assert (answer.status, answer.body) == (200, b'{"a": 1}')
    (_, headers) = source.requests[0]
    assert headers["X-Test"] == "1"
    assert headers["Host"] == source.url.removeprefix("http://")
    assert headers["User-Agent"].startswith("Postroom/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "0x7f.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"],
)
async def test_an_internal_host_is_refused_however_it_is_written(source, host):
    async with GuardedClient(["app.example"]) as client:
        with pytest.raises(CallFailed, match=r"is the internal address .*; name its base in POSTROOM_SOURCE_<NAME>"):
            await client.get(f"http://{host}:{port(source)}/x", {})
    assert source.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(source, status):
    source.answers |= {"/moved": (status, ""), "/elsewhere": {"stolen": True}}
    async with GuardedClient(["127.0.0.1"]) as client:
        assert (await client.get(f"{source.url}/moved", {})).status == status
    assert source.paths == ["/moved"]


async def test_an_answer_has_a_largest_size(source):
    source.answers |= {"/fits": "x" * MAX_BODY_BYTES, "/big": "x" * (MAX_BODY_BYTES + 1)}
    async with GuardedClient(["127.0.0.1"]) as client:
        assert len((await client.get(f"{source.url}/fits", {})).body) == MAX_BODY_BYTES
        with pytest.raises(CallFailed, match=r"larger than 1,000,000 bytes"):
            await client.get(f"{source.url}/big", {})
        assert (await client.get(f"{source.url}/x", {})).status == 200, "the client still works"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "unix:///run/app.sock",
        "127.0.0.1/x",
        "//127.0.0.1/x",
        "http://",
        "http:///x",
        "http://user:password@127.0.0.1/x",
        "http://127.0.0.1@evil.example/x",
        "http://[::1",
        "http://127.0.0.1:port/x",
        "http://127.0.0.1:99999/x",
        "",
    ],
)
async def test_only_http_addresses_are_called(url):
    async with GuardedClient(["127.0.0.1"]) as client:
        with pytest.raises(CallFailed):
            await client.get(url, {})


async def test_nobody_there_is_a_failed_call():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with GuardedClient(["127.0.0.1"]) as client:
            with pytest.raises(CallFailed):
                await client.get(f"http://127.0.0.1:{taken.getsockname()[1]}/x", {})


async def test_a_proxy_of_the_environment_is_not_used(source, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with GuardedClient(["127.0.0.1"]) as client:
        assert (await client.get(f"{source.url}/x", {})).status == 200
