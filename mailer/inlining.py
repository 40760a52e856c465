"""CSS inlined into a template's source, once at load, with its Jinja tags left as they are. Pure.

The trap: an HTML parser moves text that stands between table rows out of the table, and with it a `{% for %}`. So each
Jinja tag is masked first, as a comment where markup may stand and as a word inside tags, comments and raw text. And
what stands before a <body> that the parser adds is no longer where its end is: so the parser is given one.
"""

import re

import css_inline

from mailer.errors import TemplateError

_PIECES = re.compile(
    r"(?P<jinja>\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\})"
    r"|(?P<comment_open><!--)|(?P<comment_close>-->)"
    r"|(?P<raw_open><(?:title|style|textarea)\b)|(?P<raw_close></(?:title|style|textarea)\s*>)"
    r"|(?P<tag_open><(?=[A-Za-z/!]))|(?P<tag_close>>)|(?P<value_open>=\s*[\"'])|(?P<quote>[\"'])",
    re.DOTALL | re.IGNORECASE,
)
_INSIDE_A_TAG = r"(?:\"[^\"]*\"|'[^']*'|[^'\">])*>"
_TAGS = re.compile(
    rf"<!--.*?-->|<(?P<raw>title|style|script|textarea)\b.*?</(?P=raw)\s*>|(?P<body><body\b)|(?P<end></head\s*>)"
    rf"|<[a-z/]{_INSIDE_A_TAG}",
    re.DOTALL | re.IGNORECASE,
)
_BEFORE_BODY = re.compile(
    r"\s+|<!--jinja-(?P<jinja>\d+)-mask-->|<!--.*?-->"
    rf"|(?P<html><[!?](?!--)[^>]*>|<html\b{_INSIDE_A_TAG})|(?P<head><(?:head|meta|link|base)\b{_INSIDE_A_TAG}"
    r"|<(?P<raw>title|style|script|noscript)\b.*?</(?P=raw)\s*>)",
    re.DOTALL | re.IGNORECASE,
)
"""What belongs to a head that nobody closes."""
_SAYS_SOMETHING = re.compile(r"\{\{|\{%[-+]?\s*(?:include|call)\b")
_BEGINS_A_BLOCK = re.compile(
    r"\{%[-+]?\s*(?:(?:if|for|macro|filter|block|with|autoescape|raw)\b|set\b[^=]*%\})", re.DOTALL
)
_ENDS_A_BLOCK = re.compile(r"\{%[-+]?\s*end")
_MASKED = re.compile(r'<!--jinja-(\d+)-mask-->|jinja-(\d+)-mask(?:="")?')

# Remote style sheets are never loaded; <style> stays, for it holds the media queries that cannot be inlined.
_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True)


def inline_css(source: str) -> str:
    """`source` (HTML with Jinja tags) with the rules of its <style> elements copied into style attributes."""
    masked, tags = _mask(source)
    try:
        inlined = _INLINER.inline(_with_body(masked, tags))
    except css_inline.InlineError as error:
        raise TemplateError(f"the CSS cannot be inlined: {error}") from error
    unmasked = _MASKED.sub(lambda match: tags[int(match[1] or match[2])], inlined)
    if len(_MASKED.findall(inlined)) != len(tags):
        raise TemplateError("a Jinja tag stands where HTML allows no text; move it, or leave out the layout")
    return unmasked


def _with_body(masked: str, tags: list[str]) -> str:
    end_of_head = 0
    for tag in _TAGS.finditer(masked):
        if tag["body"]:
            return masked
        if tag["end"] and not end_of_head:
            end_of_head = tag.end()
    begin, end = _open_head(masked, tags, end_of_head)
    head = masked[:end] if begin is None else f"{masked[:begin]}<head>{masked[begin:end]}"
    return f"{head}<body>{masked[end:]}"


def _open_head(masked: str, tags: list[str], position: int) -> tuple[int | None, int]:
    """Where what belongs to it ends, from `position` on, and never inside a Jinja block. And where it begins, if the
    parser would have it begin inside one."""
    begin, end, in_head, blocks = None, position, False, 0
    is_closed = position > 0  # what stands behind its end tag, the parser moves into it all the same
    while found := _BEFORE_BODY.match(masked, position):
        jinja = tags[int(found["jinja"])] if found["jinja"] else ""
        if _SAYS_SOMETHING.match(jinja) or (jinja and is_closed) or (blocks and found["html"]):
            break
        if found["head"] and blocks and not in_head:
            begin = end
        in_head = in_head or bool(found["head"])
        blocks += bool(_BEGINS_A_BLOCK.match(jinja)) - bool(_ENDS_A_BLOCK.match(jinja))
        position = found.end()
        end = end if blocks else position
    return begin, end


def _mask(source: str) -> tuple[str, list[str]]:
    tags: list[str] = []
    inside: str | None = None  # "tag", "raw", "comment", or the quote around an attribute's value

    def mask(match: re.Match[str]) -> str:
        nonlocal inside
        kind = match.lastgroup
        if kind == "jinja":
            if inside == "tag" and match[0].startswith("{%"):
                raise TemplateError(f"{match[0]} stands between attributes; write it inside the quotes of a value")
            tags.append(match[0])
            word = f"jinja-{len(tags) - 1}-mask"
            return word if inside else f"<!--{word}-->"
        if inside == "comment":
            inside = None if kind == "comment_close" else "comment"
        elif inside == "raw":
            inside = None if kind == "raw_close" else "raw"
        elif inside == "tag":
            inside = None if kind == "tag_close" else match[0][-1] if kind == "value_open" else "tag"
        elif inside in {'"', "'"}:
            inside = "tag" if match[0][-1] == inside else inside
        else:
            inside = {"comment_open": "comment", "raw_open": "raw", "tag_open": "tag"}.get(kind or "")
        return match[0]

    return _PIECES.sub(mask, source), tags
