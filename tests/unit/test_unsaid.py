"""A relay that repeats a password, whole or in part, is not quoted with it."""

import base64

import pytest

from worker.relays.unsaid import without_secrets

USER, PASSWORD = "ada", "correct-horse-battery"
PLAIN = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
LOGIN = base64.b64encode(PASSWORD.encode()).decode()


@pytest.mark.parametrize("secret", [PASSWORD, PLAIN, LOGIN])
@pytest.mark.parametrize(
    "broken",
    [
        lambda secret: secret,
        lambda secret: secret[:14] + "...",
        lambda secret: secret[:9] + " " + secret[9:],
        str.lower,
        str.upper,
    ],
    ids=["whole", "cut off", "in two", "lower case", "upper case"],
)
def test_no_part_of_a_password_is_quoted(secret: str, broken) -> None:
    said = without_secrets(f"5.7.8 bad: AUTH {broken(secret)} try again", USER, PASSWORD)
    assert said.startswith("5.7.8 bad: AUTH ***")
    assert said.endswith((" try again", "... try again"))
    assert not any(secret[at : at + 6].lower() in said.lower() for at in range(len(secret) - 5))


def test_what_is_no_password_is_not_struck_out_though_it_is_no_text() -> None:
    assert without_secrets("J\0\0\n8.0.36\0", USER, PASSWORD) == "J\0\0\n8.0.36\0"


def test_letters_that_grow_in_lower_case_hide_nothing() -> None:
    assert without_secrets("501 bad: Correct-horse-batt \u0130", USER, PASSWORD) == "501 bad: *** \u0130"


@pytest.mark.parametrize("password", [None, "pw", PASSWORD])
def test_other_words_stay(password: str | None) -> None:
    said = "5.7.8 Authentication credentials invalid: see https://help.example/?p=BadCredentials"
    assert without_secrets(said, USER, password) == said
