"""CSS moves into style attributes; everything else in a template stays what and where it was."""

from html.parser import HTMLParser

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import TemplateError
from mailer.inlining import inline_css

STYLE = "<html><head><style>.a { color: red } td { padding: 1px }</style></head><body>"
VALUES = {"x": 'q<b>"&', "y": "", "rows": [1, 2], "empty": []}


class _Read(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.raw = False

    def handle_starttag(self, tag, attrs):
        self.raw = tag == "style"
        self.seen += [f"{tag}.{name}={value}" for name, value in sorted(attrs) if name not in {"style", "class"}]

    def handle_endtag(self, tag):
        self.raw = False

    def handle_data(self, data):
        if not self.raw:
            self.seen += data.split()

    def handle_comment(self, data):
        self.seen.append(f"<!--{data.strip()}-->")


def read(template: str) -> str:
    """Text, attributes and comments of the rendered template, in their order."""
    reader = _Read()
    reader.feed(jinja2.Template(template, autoescape=True).render(VALUES))
    reader.close()
    return "".join(reader.seen)


def test_rules_are_copied_into_the_elements_and_the_style_sheet_stays():
    inlined = inline_css(STYLE + '<p class="a">{{ x }}</p>')
    assert '<p class="a" style="color: red;">{{ x }}</p>' in inlined
    assert ".a { color: red }" in inlined


def test_a_media_query_is_kept_for_it_cannot_be_inlined():
    query = "@media (prefers-color-scheme: dark) { p { color: white !important } }"
    assert query in inline_css(f"<html><head><style>{query}</style></head><body><p>x</p></body></html>")


@pytest.mark.parametrize(
    "piece",
    [
        "<table>{% for row in rows %}<tr><td>{{ row }}</td></tr>{% endfor %}</table>",
        "<table><tbody>{% if x %}<tr><td>a</td></tr>{% else %}<tr><td>b</td></tr>{% endif %}</tbody></table>",
        "<table><tr>{% for row in rows %}<td>{{ row }}</td>{% endfor %}</tr></table>",
        "<ul>{% for row in rows %}<li>{{ row }}{% endfor %}</ul>",
        "<select>{% for row in rows %}<option value='{{ row }}'>{{ row }}</option>{% endfor %}</select>",
        '<a href="{{ x }}" title="{% if x %}a{% else %}b{% endif %}">z</a>',
        "<a href='{{ x }}' title='it is \"so\" > {{ x }}'>z</a>",
        '<a title="a > b" href="{{ x }}">{{ x }}</a>',
        "<td-like width={{ rows|length }}>z</td-like>",
        '<a {{ "data-z" }}="1">z</a>',
        '<a href="https://a.example/?a=1&amp;b={{ x|urlencode }}">z</a>',
        "<!-- {{ rows|length }} -->z",
        "<!--[if mso]><table><tr><td>{{ rows|length }}<![endif]-->z",
        "{# a note with <b> and {{ x }} #}z",
        "{% set z = '<td>' %}{{ z|length }}",
        "{{ '}' }}{{ \"a > b\" }}",
        "<textarea>{{ x }}</textarea>",
        "{% if x > 1|string %}a{% endif %}<br>{{ 1 < 2 }}",
        "Tom &amp; Jerry &lt;3 &copy; {{ x }}",
    ],
)
def test_a_jinja_tag_stays_where_its_author_put_it(piece):
    assert read(inline_css(STYLE + piece + "</body></html>")) == read(STYLE + piece + "</body></html>")


@pytest.mark.parametrize(
    ("source", "inlined"),
    [
        (
            "{% for row in rows %}<p>{{ row }}</p>{% endfor %}",
            "<html><head></head><body>{% for row in rows %}<p>{{ row }}</p>{% endfor %}</body></html>",
        ),
        ("{{ x }} <b>z</b>", "<html><head></head><body>{{ x }} <b>z</b></body></html>"),
        (
            "<!doctype html>\n<style>p { color: red }</style>\n{% if x %}<p>z</p>{% endif %}",
            (
                "<!DOCTYPE html><html><head><style>p { color: red }</style>\n</head>"
                '<body>{% if x %}<p style="color: red;">z</p>{% endif %}</body></html>'
            ),
        ),
        (
            '<html lang="de"><title>{{ x }}</title><!-- note -->{% if x %}<p>z</p>{% endif %}</html>',
            (
                '<html lang="de"><head><title>{{ x }}</title><!-- note --></head>'
                "<body>{% if x %}<p>z</p>{% endif %}</body></html>"
            ),
        ),
        (
            "<html><head>{% if x %}<title>z</title>{% endif %}</head>{% if x %}<p>z</p>{% endif %}",
            "<html><head>{% if x %}<title>z</title>{% endif %}</head><body>{% if x %}<p>z</p>{% endif %}</body></html>",
        ),
    ],
)
def test_a_source_without_a_body_element_gets_one_around_all_that_it_shows(source, inlined):
    assert inline_css(source) == inlined


RED = "<style>p { color: red }</style>"
LOOP = "{% for row in rows %}<p>{{ row }}</p>{% endfor %}"
RED_LOOP = LOOP.replace("<p>", '<p style="color: red;">')


@pytest.mark.parametrize(
    ("head", "read_as"),
    [
        ("{# note #}\n<!doctype html>", "{# note #}<!DOCTYPE html><html><head>"),
        ("{% set a = 1 %}{%- import 'm' as m %}", "{% set a = 1 %}{%- import 'm' as m %}<html><head>"),
        ("{% if x %}{% set a = 1 %}{% endif %}<html>", "{% if x %}{% set a = 1 %}{% endif %}<html><head>"),
        ('<html><head>{% if x %}<meta name="a">{% endif %}',) * 2,
        ("<!doctype html><meta name=d content='a > b'>", '<!DOCTYPE html><html><head><meta name="d" content="a > b">'),
        ("<!-- </head> -->", "<!-- </head> --><html><head>"),
        ("<!-- no <body> -->", "<!-- no <body> --><html><head>"),
        ("<!--[if mso]><body class=a><![endif]--><head>", "<!--[if mso]><body class=a><![endif]--><html><head>"),
        ("<head><title></head></title>", "<html><head><title>&lt;/head&gt;</title>"),
        ("<!DOCTYPE html><head><!--[if !mso]><!--><meta>", "<!DOCTYPE html><html><head><!--[if !mso]><!--><meta>"),
        ("<?xml version='1.0'?><!DOCTYPE html>", "<!--?xml version='1.0'?--><!DOCTYPE html><html><head>"),
        ('<script type="a">{"b": "{{ x }}"}</script>', '<html><head><script type="a">{"b": "{{ x }}"}</script>'),
    ],
)
@pytest.mark.parametrize("end", ["", "</head>"])
def test_what_stands_before_what_is_shown_stays_there(head, read_as, end):
    """A doctype and a style sheet that came to stand in the body would not be heeded."""
    assert inline_css(head + RED + end + LOOP) == f"{read_as}{RED}</head><body>{RED_LOOP}</body></html>"


@pytest.mark.parametrize("piece", ["{{ x }}", "{% include 'm' %}", LOOP])
def test_what_is_shown_stands_in_the_body(piece):
    shown = RED_LOOP if piece == LOOP else piece
    assert inline_css(piece + RED) == f"<html><head></head><body>{shown}{RED}</body></html>"


def test_a_head_that_the_parser_adds_begins_in_no_jinja_block():
    title = "{% if x %}<title>z</title>{% endif %}"
    assert inline_css(title + RED + LOOP) == f"<html><head>{title}{RED}</head><body>{RED_LOOP}</body></html>"


def test_a_style_sheet_behind_the_head_joins_it_unless_a_jinja_tag_comes_before_it():
    head = "<html><head></head>"
    assert inline_css(head + RED + LOOP) == f"<html><head>{RED}</head><body>{RED_LOOP}</body></html>"
    last = "{% if x %}" + RED + "{% endif %}"
    assert inline_css(head + last + LOOP) == f"<html><head></head><body>{last}{RED_LOOP}</body></html>"


def test_jinja_tags_work_in_the_title_and_in_the_style_sheet():
    source = (
        "<html><head><title>{{ x }} {% if x %}!{% endif %}</title>"
        "<style>{% if x %}p { color: {{ rows|first }} }{% endif %}</style></head><body><p>z</p></body></html>"
    )
    inlined = inline_css(source)
    assert "<title>{{ x }} {% if x %}!{% endif %}</title>" in inlined
    assert "{% if x %}p { color: {{ rows|first }} }{% endif %}</style>" in inlined


@pytest.mark.parametrize(
    "piece",
    [
        '<p class="a" {% if x %}title="t"{% endif %}>z</p>',
        "<option {% if x %} selected {% endif %}>z</option>",
        '<p {% if x %}class="a"{% else %}class="b"{% endif %}>z</p>',
        "<p{% if x %} hidden{% endif %}>z</p>",
    ],
)
def test_a_condition_between_attributes_is_refused_for_html_keeps_no_place_there(piece):
    with pytest.raises(TemplateError, match="write it inside the quotes of a value"):
        inline_css(STYLE + piece)


def test_a_tag_that_html_would_repeat_is_refused():
    with pytest.raises(TemplateError, match="where HTML allows no text"):
        inline_css('<b class="{{ x }}"><p>a</b>b</p>')


LEAVES = st.sampled_from(
    [
        "{{ x }}", "{{ y }}", "{# note #}", "plain", "a &amp; b", "<br>", "<!-- c{{ rows|length }} -->", "é漢😀",
        '<img alt="{{ x }}">', "<p class=a>{{ x }}</p>", "{% set z = x %}{{ z }}", "<b class='a {{ y }}'>b</b>",
    ]
)  # fmt: skip
FRAMES = st.sampled_from(
    [
        "<div>%s</div>", '<div class="a">%s</div>', "{%% if x %%}%s{%% endif %%}",
        "{%% for i in rows %%}%s{%% endfor %%}",
        "{%% for i in empty %%}%s{%% else %%}e{%% endfor %%}",
        "<table>{%% for i in rows %%}<tr><td>%s</td></tr>{%% endfor %%}</table>",
        "<table><tr>{%% if x %%}<td>{{ x }}</td>{%% endif %%}<td class=a>%s</td></tr></table>",
    ]
)  # fmt: skip


def _framed(inner):
    return st.lists(inner, max_size=3).map("".join) | st.builds(lambda frame, text: frame % text, FRAMES, inner)


@given(st.recursive(LEAVES, _framed, max_leaves=12))
def test_nothing_is_lost_and_nothing_moves(body):
    source = f"{STYLE}{body}</body></html>"
    assert read(inline_css(source)) == read(source)


@given(st.recursive(LEAVES, _framed, max_leaves=12))
def test_a_fragment_reads_as_its_author_wrote_it(body):
    assert read(inline_css(body)) == read(f"<html><head></head><body>{body}</body></html>")
