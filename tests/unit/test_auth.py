"""The door: closed by default, and open only to this machine."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from mailer.errors import InvalidRequest
from service.auth import ANONYMOUS, OPEN_PATHS, Gate, challenge
from service.settings import ServiceSettings

KEY = "0123456789abcdef-ops"
OTHER = "fedcba9876543210-app"
CLOSED = Gate.of(ServiceSettings.load({"POSTROOM_API_KEYS": f"ops:{KEY}, app:{OTHER}"}))
NO_KEYS = Gate.of(ServiceSettings.load({}))
OPEN = Gate.of(ServiceSettings.load({"POSTROOM_AUTH": "off"}))


def admit(gate: Gate, path: str = "/jobs", method: str = "GET", **headers: str) -> str:
    return gate.admit(method, path, Headers({name.replace("_", "-"): value for name, value in headers.items()}))


def refusal(gate: Gate, path: str = "/jobs", method: str = "GET", **headers: str) -> tuple[int, str]:
    with pytest.raises(InvalidRequest) as caught:
        admit(gate, path, method, **headers)
    assert KEY not in str(caught.value)
    return caught.value.status, caught.value.code


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def test_a_key_tells_who_is_calling():
    assert admit(CLOSED, authorization=f"Bearer {KEY}") == "ops"
    assert admit(CLOSED, authorization=f"bearer  {OTHER} ") == "app"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", KEY, f"Token {KEY}", basic(KEY)])
def test_without_a_key_nobody_is_let_in(authorization):
    assert refusal(CLOSED, authorization=authorization) == (401, "missing_key")
    assert refusal(CLOSED) == (401, "missing_key")


@pytest.mark.parametrize("key", [KEY[:-1], f"{KEY}x", KEY.upper(), f"ops:{KEY}", "é" * 20, "\ud800", f"{KEY} {OTHER}"])
def test_a_wrong_key_is_no_key(key):
    with pytest.raises(InvalidRequest) as caught:
        CLOSED._owner(key)
    assert (caught.value.status, caught.value.code) == (401, "invalid_key")


@given(st.binary(max_size=40), st.sampled_from([b"Bearer ", b"Basic ", b"bearer", b""]))
def test_whatever_stands_in_the_header_only_a_key_opens_the_door(value, scheme):
    for path in ("/jobs", "/mailbox"):
        with pytest.raises(InvalidRequest):
            CLOSED.admit("GET", path, Headers(raw=[(b"authorization", scheme + value)]))


def test_closed_by_default_and_the_fix_is_told():
    with pytest.raises(InvalidRequest, match="POSTROOM_API_KEYS"):
        admit(NO_KEYS, authorization=f"Bearer {KEY}"[:6])
    assert refusal(NO_KEYS, authorization="Bearer x") == (401, "invalid_key")


@pytest.mark.parametrize("path", [*sorted(OPEN_PATHS), "/static/docs/swagger-ui.css"])
def test_health_and_docs_need_no_key(path):
    assert admit(CLOSED, path) == ANONYMOUS


@pytest.mark.parametrize(
    "path",
    [
        "/jobs",
        "/jobs/1",
        "/mailbox",
        "/mailbox/messages",
        "/metrics",
        "/healthz/x",
        "/docs/",
        "//",
        "/static",
        "",
        "/STATIC/x",
    ],
)
def test_every_other_path_needs_a_key(path):
    assert refusal(CLOSED, path)[0] == 401


def test_a_browser_may_give_the_key_as_password_where_it_shows_pages():
    assert admit(CLOSED, "/mailbox", authorization=basic(KEY)) == "ops"
    assert refusal(CLOSED, "/mailbox", authorization=basic("wrong")) == (401, "invalid_key")
    assert refusal(CLOSED, "/jobs", authorization=basic(KEY)) == (401, "missing_key")
    assert challenge("GET", "/mailbox/messages").startswith("Basic ")
    assert challenge("GET", "/jobs") == "Bearer"


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_password_that_a_browser_adds_by_itself_changes_nothing(method):
    """A page of another site can make it post to a job's /cancel."""
    path = "/jobs/b9892a383be24e9eafd8cb5a52726247/cancel"
    assert refusal(CLOSED, path, method, authorization=basic(KEY)) == (401, "missing_key")
    assert admit(CLOSED, path, method, authorization=f"Bearer {KEY}") == "ops"
    assert challenge(method, path) == "Bearer"


@pytest.mark.parametrize("credentials", ["", "=", "not base64!", "/w==", "\u00e9\u00e9", basic(KEY)[6:-2]])
def test_a_password_that_cannot_be_read_is_a_wrong_key(credentials):
    assert refusal(CLOSED, "/mailbox", authorization=f"Basic {credentials}") == (401, "invalid_key")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_with_authentication_off_this_machine_is_let_in(host):
    assert admit(OPEN, host=host) == ANONYMOUS
    assert admit(OPEN, host=host, origin=f"http://{host}") == ANONYMOUS


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8000",
        "localhost@evil.example",
        "127.0.0.2",
        "[",
        "[::1",
        "a b",
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/healthz", "/docs"])
def test_a_name_that_was_pointed_at_this_machine_is_turned_away(host, path):
    assert refusal(OPEN, path, host=host) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "http://localhost:8000.evil.example",
        "http://[",
        "",
        "file://",
    ],
)
def test_a_page_of_another_site_may_not_call(origin):
    assert refusal(OPEN, host="localhost:8000", origin=origin) == (403, "origin_not_allowed")


def test_the_address_it_listens_on_is_a_name_for_this_machine_too():
    gate = Gate.of(ServiceSettings.load({"POSTROOM_AUTH": "off", "POSTROOM_HOST": "192.0.2.7"}))
    assert admit(gate, host="192.0.2.7:8000") == ANONYMOUS
