"""What a template may do: strict about its variables, nothing beyond them, and bounded."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import RenderingError, TemplateError
from mailer.sandbox import FALSE_WORDS, MAX_RENDERED_CHARS, BaseUrl, Engine, is_true, render_part, rendered
from mailer.turns import Turns, at_once

ENGINE = Engine(Path("no-such-folder"))
SOURCES = {"app": BaseUrl("http://app.example:8080/api")}


def render(source, name="welcome/body.txt", **variables):
    return render_part(ENGINE.compile(source, name), variables)


def url(source, **variables):
    part = ENGINE.compile(source, "welcome/fetch.user", url=True)
    return render_part(part, {"sources": SOURCES, **variables})


def test_a_variable_that_is_not_there_is_an_error_with_its_file_and_line():
    with pytest.raises(RenderingError, match=r"^welcome/body.txt, line 2: 'user' is undefined$"):
        render("Hello\n{{ user }}")


@pytest.mark.parametrize(
    "source", ["{{ a.b }}", "{% if b %}x{% endif %}", "{% for i in b %}x{% endfor %}", "{{ b ~ 1 }}"]
)
def test_nothing_missing_passes_in_silence(source):
    with pytest.raises(RenderingError, match="b"):
        render(source, a={})


def test_values_are_escaped_in_html_and_left_alone_in_text():
    assert render("{{ x }}", "welcome/body.html", x="<b>") == "&lt;b&gt;"
    assert render("{{ x }}", "welcome/body.txt", x="<b>") == "<b>"


def test_a_value_is_never_a_template():
    assert render("{{ x }}", x="{{ 7 * 7 }}{% raw %}") == "{{ 7 * 7 }}{% raw %}"


@pytest.mark.parametrize("source", ["{% if %}", "{{ x", "{{ x|nosuchfilter }}", "{% endfor %}", "{% for x in %}"])
def test_a_syntax_error_is_told_at_load_with_file_and_line(source):
    with pytest.raises(TemplateError, match=r"^welcome/body.txt, line 1: "):
        ENGINE.compile(source, "welcome/body.txt")


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% for a in b %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "1" * 5000 + " }}",
    ],
)
def test_what_python_cannot_compile_is_a_broken_template_too(source):
    with pytest.raises(TemplateError, match=r"^welcome/body.txt: "):
        ENGINE.compile(source, "welcome/body.txt")


@pytest.mark.parametrize(
    "payload",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ x.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ lipsum|attr('__globals__') }}",
        "{{ lipsum.__code__.co_code }}",
        "{{ dict.__base__.__subclasses__() }}",
        "{{ range.__class__ }}",
        "{{ config.items() }}",
        "{{ request.application.__globals__ }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ '{a.__class__}'.format_map({'a': x}) }}",
        "{{ '{0.__class__}'|attr('format')(x) }}",
        "{% set f = '{0.__class__}'.format %}{{ f(x) }}",
        "{% set f = ('{0.__class__}'|attr('format')) %}{{ f(x) }}",
        "{{ (x|map('attr', '__class__')|first) }}",
        "{% for a in [] %}{% else %}{{ loop.__class__ }}{% endfor %}",
        "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
        "{{ x.append(1) }}",
        "{{ y.update({'a': 2}) }}",
        "{{ y.clear() }}",
        "{{ range(999999999)|list }}",
    ],
)
def test_a_template_cannot_reach_out_of_its_sandbox(payload):
    lists = {"x": [1], "y": {"a": 1}}
    with pytest.raises(RenderingError):
        render(payload, **lists)
    assert lists == {"x": [1], "y": {"a": 1}}


@pytest.mark.parametrize("source", ["{% include '../../etc/passwd' %}", "{% import 'os' as os %}{{ os }}"])
def test_a_template_cannot_read_other_files(source):
    with pytest.raises(TemplateError, match="there is no"):
        ENGINE.variables(source, "welcome/body.txt")


def test_a_mail_cannot_grow_without_end():
    with pytest.raises(RenderingError, match=r"welcome/body.txt: longer than 2,000,000 characters"):
        render("{% for a in range(99999) %}{{ x }}{% endfor %}", x="x" * (MAX_RENDERED_CHARS // 1000))


def test_a_part_that_begins_with_nothing_at_all_is_rendered_to_its_end():
    source = "".join("{{ nothing }}" for _ in range(200)) + "the end"
    assert render(source, nothing="") == "the end"


def test_a_field_is_found_by_its_name_unless_a_dictionary_has_a_method_of_that_name():
    order = {"total": 7, "items": [1, 2]}
    assert render("{{ order.total }} {{ order['items'] | length }}", order=order) == "7 2"
    assert render("{% for name, _ in order.items() %}{{ name }} {% endfor %}", order=order) == "total items "


def test_a_mail_cannot_take_for_ever():
    endless = ENGINE.compile(
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ x }}{% endfor %}{% endfor %}", "a"
    )
    with pytest.raises(RenderingError, match="a: not rendered within"):
        at_once(rendered(endless, {"x": ""}, max_s=0.01))


async def test_others_have_their_turn_while_a_long_mail_is_rendered():
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    long = ENGINE.compile("{% for a in range(99999) %}{{ x }}, {% endfor %}", "welcome/body.txt")
    meanwhile = asyncio.create_task(others())
    each = Turns()
    texts = await asyncio.gather(*(each.take(rendered(long, {"x": word})) for word in ("one", "two", "six")))
    meanwhile.cancel()
    assert texts == ["one, " * 99_999, "two, " * 99_999, "six, " * 99_999]
    assert turns > 1


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        (42, "42"),
        (-1, "-1"),
        ("ada", "ada"),
        ("../admin?x=", "..%2Fadmin%3Fx%3D"),
        ("..%2f", "..%252f"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a?b#c", "a%3Fb%23c"),
        ("@evil.example", "%40evil.example"),
        ("//evil.example", "%2F%2Fevil.example"),
        ("a b", "a%20b"),
        ("a&b=c;d", "a%26b%3Dc%3Bd"),
        ("\r\nHost: evil", "%0D%0AHost%3A%20evil"),
        ("\0", "%00"),
        ("...", "..."),
        ("Zoë漢😀", "Zo%C3%AB%E6%BC%A2%F0%9F%98%80"),
    ],
)
def test_a_value_in_a_url_cannot_choose_another_path(value, segment):
    assert url("{{ sources.app }}/users/{{ id }}", id=value) == f"http://app.example:8080/api/users/{segment}"


@pytest.mark.parametrize("value", [".", "..", ""])
def test_a_value_that_would_change_the_path_by_itself_is_refused(value):
    with pytest.raises(RenderingError, match="cannot be part of a URL"):
        url("{{ sources.app }}/users/{{ id }}", id=value)


@pytest.mark.parametrize("value", [None, True, False, 1.5, [], [1], {}, {"a": 1}, object()])
def test_only_strings_and_integers_stand_in_a_url(value):
    with pytest.raises(RenderingError, match="must be a string or an integer"):
        url("{{ sources.app }}/users/{{ id }}", id=value)


def test_half_of_a_surrogate_pair_cannot_stand_in_a_url():
    with pytest.raises(RenderingError, match="not valid Unicode"):
        url("{{ sources.app }}/users/{{ id }}", id="\ud800")


@given(st.text().filter(lambda text: text not in {"", ".", ".."}))
def test_whatever_a_value_is_it_stays_one_segment(text):
    built = url("{{ sources.app }}/users/{{ id }}/mail?q={{ id }}", id=text)
    path, _, query = built.removeprefix("http://app.example:8080/api/").partition("?")
    assert path.count("/") == 2
    assert built.isascii()
    assert built.isprintable()
    assert not {"#", "&", " ", "\\", "@"} & set(path + query)


def test_only_the_base_of_a_source_enters_as_it_is():
    assert url("{{ sources.app }}") == SOURCES["app"]
    assert url("{{ x }}", x=str(SOURCES["app"])) == "http%3A%2F%2Fapp.example%3A8080%2Fapi"
    assert url("{{ sources.app ~ x }}", x="/../") == "http%3A%2F%2Fapp.example%3A8080%2Fapi%2F..%2F"
    assert url("{{ x|safe }}", x="a/b") == "a%2Fb"


def test_a_source_that_nobody_configured_is_named():
    with pytest.raises(RenderingError, match=r"welcome/fetch.user, line 1: .* has no attribute 'billing'"):
        url("{{ sources.billing }}/users")


@pytest.mark.parametrize("text", [*FALSE_WORDS, " False ", "NONE", "No", "\n"])
def test_what_counts_as_no(text):
    assert not is_true(text)


@pytest.mark.parametrize("text", ["true", "1", "yes", "x", "00", "[]"])
def test_what_counts_as_yes(text):
    assert is_true(text)
