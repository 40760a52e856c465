"""The mail as an application without Postroom makes it: Jinja2, and an EmailMessage of the standard library."""

from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from jinja2 import Environment, FileSystemLoader

from benchmarks.mail import SENDER, TEMPLATE, TEMPLATES, recipient, variables

_environment = Environment(
    loader=FileSystemLoader(TEMPLATES / TEMPLATE),
    autoescape=lambda name: bool(name and name.endswith(".html")),
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_SUBJECT, _TEXT, _HTML = (_environment.get_template(name) for name in ("subject.txt", "body.txt", "body.html"))


def rendered(number: int) -> tuple[str, str, str]:
    """Subject, text and html of mail `number`."""
    data = variables(number)
    subject = _SUBJECT.render(data)
    return subject, _TEXT.render(data), _HTML.render(data, mail={"subject": subject})


def message(number: int) -> EmailMessage:
    subject, text, html = rendered(number)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, recipient(number), subject
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain="postroom.example")
    mail.set_content(text)
    mail.add_alternative(html, subtype="html")
    return mail
