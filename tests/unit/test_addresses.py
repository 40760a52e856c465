"""What a caller may write as an address, and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.addresses import Address, make_address, parse_address
from mailer.errors import AddressError, HeaderError, PostroomError

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))
ANY = st.text(st.characters(exclude_categories=[])) | st.text('ab@<>"\\,;:()[]. \r\n=?é')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada@example.com", Address("ada@example.com")),
        ("  ada@example.com ", Address("ada@example.com")),
        ("Ada <ada@example.com>", Address("ada@example.com", "Ada")),
        ("Ada Lovelace<ada@example.com>", Address("ada@example.com", "Ada Lovelace")),
        ('"Lovelace, Ada" <ada@example.com>', Address("ada@example.com", "Lovelace, Ada")),
        (r'"Ada \"the Countess\" \\" <ada@example.com>', Address("ada@example.com", 'Ada "the Countess" \\')),
        ('Ada "the <Countess>" Lovelace <ada@example.com>', Address("ada@example.com", "Ada the <Countess> Lovelace")),
        ("J. R. Tolkien <jrr@example.com>", Address("jrr@example.com", "J. R. Tolkien")),
        ("<ada@example.com>", Address("ada@example.com")),
        ('"" <ada@example.com>', Address("ada@example.com")),
        ("Zoë <zoe@example.com>", Address("zoe@example.com", "Zoë")),
        ('"a<b@c"@example.com', Address('"a<b@c"@example.com')),
        ('Ada <"a>b"@example.com>', Address('"a>b"@example.com', "Ada")),
    ],
)
def test_the_usual_ways_to_write_one_mailbox_are_understood(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.com, eve@evil.example",
        "ada@example.com; eve@evil.example",
        "Ada <ada@example.com>, eve@evil.example",
        "Ada <ada@example.com>, Eve <eve@evil.example>",
        "Ada <ada@example.com> <eve@evil.example>",
        "eve@evil.example <ada@example.com>",
        "Lovelace, Ada <ada@example.com>",
        "<ada@example.com>eve@evil.example",
        "Friends: ada@example.com, eve@evil.example;",
        "Friends:;",
        "undisclosed-recipients:;",
        "ada@example.com (Ada)",
        "ada(comment)@example.com",
        "Ada (the Countess) <ada@example.com>",
        "<@relay.example:ada@example.com>",
        "Ada <@relay.example,@other.example:ada@example.com>",
        "ada@example.com trailing",
        "Ada <ada@example.com> trailing",
        '"Ada <ada@example.com>',
        '"Ada" "<ada@example.com>',
        "ada @example.com",
        "ada@ example.com",
    ],
)
def test_anything_but_exactly_one_mailbox_is_refused(text):
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert not caught.value.injection


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        '""@example.com',
        'a"b"@example.com',
        '"a"b"@example.com',
        "a@b@example.com",
        "=?utf-8?q?x?=@example.com",
        "a\u00a0b@example.com",
        "a\u200bé@example.com",
        "\ud800@example.com",
        "a" * 65 + "@example.com",
        "é" * 33 + "@example.com",
        "ada@" + "a" * 64 + ".example",
        "ada@" + ".".join(["a" * 60] * 5),
        "a" * 64 + "@" + ".".join(["a" * 60] * 3) + ".example.com",
        "ada@example",
        "ada@example.com.",
        "ada@.example.com",
        "ada@exa..mple.com",
        "ada@-example.com",
        "ada@exa_mple.com",
        "ada@127.0.0.1",
        "ada@[127.0.0.1]",
        "ada@[IPv6:::1]",
        "ada@☃.example",
        "ada@xn--a.example",
        "ada@exam\u2100ple.com",
        "ada@exam\ud800ple.com",
    ],
)
def test_an_email_that_no_one_can_have_is_refused(email):
    with pytest.raises(AddressError):
        make_address(email, None)


@pytest.mark.parametrize(
    ("given_email", "email"),
    [
        ("Ada@EXAMPLE.com", "Ada@example.com"),
        ("ada@Bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@faß.example", "ada@xn--fa-hia.example"),
        ("ada@日本。example", "ada@xn--wgv71a.example"),
        ("ada@localhost", "ada@localhost"),
        ('"ada"@example.com', "ada@example.com"),
        (r'"ad\a b"@example.com', '"ada b"@example.com'),
        ("u\u0308@example.com", "ü@example.com"),
    ],
)
def test_one_address_is_always_written_in_one_way(given_email, email):
    assert make_address(given_email, None).email == email


def test_only_a_local_part_beyond_ascii_needs_smtputf8():
    assert make_address("zoë@example.com", None).needs_smtputf8
    assert not make_address("zoe@bücher.example", "Zoë").needs_smtputf8


def test_a_name_that_looks_like_another_address_is_just_a_name():
    assert make_address("ada@example.com", "x@evil.example, Ada <y@evil.example>") == Address(
        "ada@example.com", "x@evil.example, Ada <y@evil.example>"
    )


@pytest.mark.parametrize("name", [None, "", "   "])
def test_a_blank_name_is_no_name(name):
    assert make_address("ada@example.com", name).name is None


@pytest.mark.parametrize("control", ["\r\n", "\r", "\n", "\0", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"])
def test_a_control_character_is_told_apart_as_an_injection(control):
    for attempt in (
        lambda: make_address("ada@example.com", f"Ada{control}Bcc: eve@evil.example"),
        lambda: make_address("ada@example.com", f"Ada{control}"),
        lambda: make_address(f"ada@example.com{control}", None),
        lambda: parse_address(f'"Ada{control}" <ada@example.com>'),
        lambda: parse_address(f"ada@example.com{control}"),
    ):
        with pytest.raises(AddressError) as caught:
            attempt()
        assert caught.value.injection


def test_half_of_a_surrogate_pair_in_a_name_is_refused_but_is_no_injection():
    with pytest.raises(AddressError) as caught:
        make_address("ada@example.com", "Ada \ud83d")
    assert not caught.value.injection


def test_an_address_error_is_a_header_error_so_that_one_clause_catches_both():
    assert issubclass(AddressError, HeaderError)
    assert issubclass(HeaderError, PostroomError)


def attempt(make, text):
    """The address, or what the error says."""
    try:
        return make(text)
    except AddressError as error:
        return str(error)


@given(ANY)
def test_any_text_gives_an_address_or_a_short_error(text):
    for make in (parse_address, lambda text: make_address(text, text), lambda text: make_address(f"a@{text}", None)):
        match attempt(make, text):
            case Address() as address:
                assert make_address(address.email, address.name) == address
                assert len(address.email.encode()) <= 254
            case message:
                assert 0 < len(message) <= 200
                assert message.isprintable()


@given(NAMES)
def test_any_name_without_control_characters_stays_as_it_is(name):
    assert make_address("ada@example.com", name).name == (name.strip() or None)


@given(NAMES)
def test_a_name_in_double_quotes_is_read_back(name):
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_address(f'"{escaped}" <ada@example.com>') == make_address("ada@example.com", name)


def test_a_long_input_is_refused_quickly_and_with_a_short_error():
    for text in (
        '"\\' * 50_000,
        "a." * 50_000 + "@example.com",
        "a@" + "é." * 50_000,
        '"a" ' * 50_000 + ">",
        "<" * 99_999,
    ):
        with pytest.raises(AddressError) as caught:
            parse_address(text)
        assert len(str(caught.value)) <= 200
