"""What was found, as an operator reads it in a terminal and a program as an object."""

import pytest

from cli.findings import Section, State, as_object, broken, lines, listed, ok, printable, summary, warning, worst

FOUND = (
    ok("banner", "220 relay.test"),
    warning("tls", "it ends in 3 days", "Have it renewed."),
    broken("login", "It refuses user ada: 535 no", "Correct user and password."),
)


def test_lines_stand_in_columns_with_the_fix_below_its_trouble():
    assert lines(FOUND, 100) == [
        "  ok       banner  220 relay.test",
        "  warning  tls     it ends in 3 days",
        "                   Fix: Have it renewed.",
        "  broken   login   It refuses user ada: 535 no",
        "                   Fix: Correct user and password.",
    ]


def test_what_does_not_fit_goes_on_below_itself():
    (first, *more) = lines([broken("login", "word " * 30)], 60)
    assert first.startswith("  broken   login  word word")
    assert more
    assert all(line.startswith(" " * 18 + "word") for line in more)
    assert max(map(len, [first, *more])) <= 60


def test_nothing_of_a_relays_words_is_obeyed_by_the_terminal():
    said = "554 \x1b[2J\x1b]0;mine\x07 gone\r\nok  all is well \u202e"
    (line,) = lines([broken("banner", said)], 1000)
    assert line.isprintable()
    assert printable(said) == "554 ?[2J?]0;mine? gone  ok  all is well ?"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (FOUND[:1], "All is well."),
        (FOUND[:2], "1 warning."),
        (FOUND, "1 broken, 1 warning."),
        (FOUND * 2, "2 broken, 2 warnings."),
    ],
)
def test_the_last_line_counts_what_is_wrong(found, said):
    assert summary(found) == said


def test_the_worst_counts():
    assert worst([]) is State.OK
    assert worst([State.WARNING, State.BROKEN, State.OK]) is State.BROKEN
    assert Section(FOUND[:2]).state is State.WARNING


def test_an_object_has_only_what_there_is():
    assert as_object(Section(FOUND[1:2], {"name": "ses"})) == {
        "state": "warning",
        "name": "ses",
        "findings": [{"state": "warning", "name": "tls", "detail": "it ends in 3 days", "fix": "Have it renewed."}],
    }


def test_long_lists_are_cut():
    assert listed([]) == "nobody"
    assert listed(list("abcde")) == "a, b, c, d, e"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
