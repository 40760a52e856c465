"""The mailbox: captured mail as JSON, as it is, and as a page."""

import asyncio
import time
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from mailer.errors import InvalidRequest
from mailer.store.mailbox import KEPT, Captured, MailboxStore, Summary
from service import mailbox_page
from service.auth import ANONYMOUS
from service.dependencies import MailboxDep, OwnerDep
from service.mailbox_page import View
from service.mailbox_schemas import MailOut, MailPage, MailSummary, show_mail, show_summary
from service.mailbox_view import as_page, read_mail
from service.openapi import problems

router = APIRouter(tags=["mailbox"])

MAX_WAIT_S = 60
_PAGE = 100
_NOSNIFF = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# Without allow-scripts and allow-same-origin the mail is a stranger here; a link that a person follows opens elsewhere.
_HTML_HEADERS = {
    **_NOSNIFF,
    "Content-Security-Policy": "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data: cid:; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}
_RAW_HEADERS = {**_NOSNIFF, "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'"}

MessageId = Annotated[str, Path(max_length=64)]


@router.get("/mailbox/messages", operation_id="listMail", responses=problems(401, 422, 503))
async def list_mail(
    store: MailboxDep,
    limit: Annotated[int, Query(ge=1, le=KEPT)] = 50,
    after: Annotated[int | None, Query(ge=0, description="`next` of the page before.")] = None,
) -> MailPage:
    """Captured mail, newest first. The newest 500 are kept."""
    found = await store.list(limit + 1, before=after)
    return MailPage(
        data=[show_summary(item) for item in found[:limit]],
        next=found[limit - 1].number if len(found) > limit else None,
    )


@router.get("/mailbox/wait", operation_id="waitForMail", responses=problems(401, 404, 422, 503))
async def wait_for_mail(
    store: MailboxDep,
    job: Annotated[str | None, Query(max_length=64, description="Sent for this job.")] = None,
    to: Annotated[str | None, Query(max_length=320, description="To this address, bcc included.")] = None,
    subject: Annotated[str | None, Query(max_length=1000, description="With this in its subject.")] = None,
    since: Annotated[int, Query(ge=0, description="Arrived after the mail of this `number`.")] = 0,
    timeout: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Seconds.")] = 10,  # noqa: ASYNC109 - the API's word
) -> MailSummary:
    """The newest mail that fits: at once if it is here, else as soon as it comes.

    404 `no_mail_yet` when the time is over.
    """

    def wanted(mail: Summary) -> bool:
        return (
            (job is None or mail.job_id == job)
            and (to is None or to.strip().lower() in (rcpt.lower() for rcpt in mail.rcpt_tos))
            and (subject is None or subject.lower() in mail.subject.lower())
        )

    found = await store.wait(wanted, since=since, timeout_s=timeout)
    if found is None:
        detail = f"Nothing that fits came within {timeout:g} s."
        raise InvalidRequest("no_mail_yet", "There is no such mail yet", detail, status=HTTPStatus.NOT_FOUND)
    return show_summary(found)


@router.get("/mailbox/messages/{message_id}", operation_id="getMail", responses=problems(401, 404, 503))
async def get_mail(store: MailboxDep, message_id: MessageId) -> MailOut:
    """A captured mail: envelope, headers, text, html, and what is attached."""
    return await asyncio.to_thread(show_mail, await _captured(store, message_id))


@router.get(
    "/mailbox/messages/{message_id}/html",
    operation_id="getMailHtml",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}}, **problems(401, 404, 503)},
)
async def get_mail_html(store: MailboxDep, message_id: MessageId) -> Response:
    """The html as a page to look at: it runs nothing and loads nothing, and its links open in a new window."""
    mail = await asyncio.to_thread(read_mail, (await _captured(store, message_id)).raw)
    if mail.parts.html is None:
        raise _not_found("This mail has no html")
    return Response(as_page(mail.parts.html), headers=_HTML_HEADERS, media_type="text/html; charset=utf-8")


@router.get(
    "/mailbox/messages/{message_id}/text",
    operation_id="getMailText",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problems(401, 404, 503)},
)
async def get_mail_text(store: MailboxDep, message_id: MessageId) -> Response:
    """The plain text."""
    mail = await asyncio.to_thread(read_mail, (await _captured(store, message_id)).raw)
    if mail.parts.text is None:
        raise _not_found("This mail has no plain text")
    return Response(mail.parts.text, headers=_RAW_HEADERS, media_type="text/plain; charset=utf-8")


@router.get(
    "/mailbox/messages/{message_id}/raw",
    operation_id="getMailRaw",
    response_class=Response,
    responses={200: {"content": {"message/rfc822": {}}}, **problems(401, 404, 503)},
)
async def get_mail_raw(store: MailboxDep, message_id: MessageId) -> Response:
    """The mail, byte for byte as it came."""
    captured = await _captured(store, message_id)
    name = f'attachment; filename="{captured.summary.id}.eml"'
    return Response(captured.raw, headers={**_RAW_HEADERS, "Content-Disposition": name}, media_type="message/rfc822")


@router.get("/mailbox", include_in_schema=False)
async def mailbox(
    request: Request, store: MailboxDep, owner: OwnerDep, after: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    return await _page(request, store, owner, after)


@router.get("/mailbox/{message_id}", include_in_schema=False)
async def mailbox_with_mail(
    request: Request,
    store: MailboxDep,
    owner: OwnerDep,
    message_id: MessageId,
    view: View | None = None,
    after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    captured = await store.get(message_id)
    return await _page(request, store, owner, after, mailbox_page.Opened(message_id, captured, view))


async def _page(
    request: Request, store: MailboxStore, owner: str, after: int | None, opened: mailbox_page.Opened | None = None
) -> Response:
    found = await store.list(_PAGE + 1, before=after)
    listing = mailbox_page.Listing(found[:_PAGE], after, more=len(found) > _PAGE)
    place = mailbox_page.Place(request.headers.get("host", ""), needs_key=owner != ANONYMOUS)
    html = await asyncio.to_thread(mailbox_page.render, listing, opened, place, time.time_ns() // 1_000_000)
    missing = opened is not None and opened.captured is None
    status = HTTPStatus.NOT_FOUND if missing else HTTPStatus.OK
    return Response(html, status, mailbox_page.HEADERS, "text/html; charset=utf-8")


async def _captured(store: MailboxStore, message_id: str) -> Captured:
    captured = await store.get(message_id)
    if captured is None:
        raise _not_found("There is no such mail here: the newest 500 are kept")
    return captured


def _not_found(detail: str) -> InvalidRequest:
    return InvalidRequest("not_found", "There is no such mail", f"{detail}.", status=HTTPStatus.NOT_FOUND)
