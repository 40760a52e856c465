"""What the mailbox's routes answer: captured mail in the API's words."""

from pydantic import BaseModel, ConfigDict, Field

from mailer.reading import ReadAddress
from mailer.store.mailbox import Captured, Summary
from service.mailbox_view import read_mail
from service.schemas import AddressOut
from service.views import rfc3339


class MailLinks(BaseModel):
    self: str
    html: str
    text: str
    raw: str
    page: str = Field(description="The mail in a browser.")
    job: str | None = Field(description="The job that it was sent for.")


class Envelope(BaseModel):
    mail_from: str = Field(description="RFC 5321 reverse path; empty for a bounce.")
    rcpt_tos: list[str] = Field(description="Who gets it, bcc included.")


class MailSummary(BaseModel):
    """A captured mail in a list. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    number: int = Field(description="Its place in the order of arrival: what `since` and `after` take.")
    received_at: str
    size: int = Field(description="Bytes.")
    subject: str
    sender: AddressOut | None = Field(alias="from")
    to: list[AddressOut]
    envelope: Envelope
    job_id: str | None = Field(description="null for mail that did not come from Postroom.")
    links: MailLinks


class MailPage(BaseModel):
    """Newest first."""

    data: list[MailSummary]
    next: int | None = Field(description="`after` of the following page; null on the last.")


class HeaderOut(BaseModel):
    name: str
    value: str = Field(description="On one line, encoded words decoded.")


class AttachmentOut(BaseModel):
    name: str | None
    content_type: str
    size: int | None = Field(description="Bytes once decoded; null for an embedded mail.")


class MailOut(MailSummary):
    """A captured mail, taken apart."""

    cc: list[AddressOut]
    headers: list[HeaderOut] = Field(description="In the order of the mail.")
    text: str | None
    html: str | None
    attachments: list[AttachmentOut]


def show_summary(summary: Summary) -> MailSummary:
    path = f"/mailbox/messages/{summary.id}"
    return MailSummary(
        id=summary.id,
        number=summary.number,
        received_at=rfc3339(summary.received_at) or "",
        size=summary.size,
        subject=summary.subject,
        sender=_address(summary.sender) if summary.sender else None,
        to=[_address(item) for item in summary.to],
        envelope=Envelope(mail_from=summary.mail_from, rcpt_tos=list(summary.rcpt_tos)),
        job_id=summary.job_id,
        links=MailLinks(
            self=path,
            html=f"{path}/html",
            text=f"{path}/text",
            raw=f"{path}/raw",
            page=f"/mailbox/{summary.id}",
            job=f"/jobs/{summary.job_id}" if summary.job_id else None,
        ),
    )


def show_mail(captured: Captured) -> MailOut:
    mail = read_mail(captured.raw)
    return MailOut(
        **dict(show_summary(captured.summary)),
        cc=[_address(item) for item in mail.cc],
        headers=[HeaderOut(name=name, value=value) for name, value in mail.headers],
        text=mail.parts.text,
        html=mail.parts.html,
        attachments=[
            AttachmentOut(name=item.name, content_type=item.content_type, size=item.size)
            for item in mail.parts.attachments
        ],
    )


def _address(address: ReadAddress) -> AddressOut:
    return AddressOut(email=address.email, name=address.name)
