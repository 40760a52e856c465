"""Many submissions in one request: each for itself, or all of them or none."""

import asyncio
from collections.abc import Sequence

import orjson

from mailer.errors import InvalidSubmission, Overloaded, QueueUnavailable, Refused, within
from service.intake import Acceptance, Intake, Item
from service.problems import QUEUE_UNAVAILABLE
from service.schemas import BatchAnswer, BatchItem, ItemProblem, ProblemField
from service.submissions import MOST_TOGETHER, Batch

KEY = "idempotency_key"


def items_of(batch: Batch) -> list[Item]:
    """Raises InvalidSubmission for a key that is no string: nothing is accepted then."""
    items = []
    for index, job in enumerate(batch.jobs):
        key = job.get(KEY)
        if key is not None and not isinstance(key, str):
            raise InvalidSubmission.at(f"/jobs/{index}/{KEY}", "must be a string")
        items.append(Item({name: value for name, value in job.items() if name != KEY}, key))
    return items


async def accept_each(intake: Intake, items: Sequence[Item], owner: str) -> BatchAnswer:
    """An item that is refused is no trouble of the others. Raises QueueUnavailable or Overloaded where that is so of
    all."""
    asked = (intake.accept(item.body, owner, item.idempotency_key) for item in items)
    found = await asyncio.gather(*asked, return_exceptions=True)
    results = [_shown(index, one) for index, one in enumerate(found)]
    later = [one for one in found if isinstance(one, QueueUnavailable | Overloaded)]
    if len(later) == len(items):
        raise later[0]
    return _answer(results)


async def accept_together(intake: Intake, items: Sequence[Item], owner: str) -> BatchAnswer:
    """Raises BatchRefused and QueueUnavailable: nothing was accepted."""
    if len(items) > MOST_TOGETHER:
        detail = f"A strict batch has at most {MOST_TOGETHER} jobs: send several, or one without mode=strict"
        raise InvalidSubmission.at("/jobs", detail)
    accepted = await intake.accept_together(items, owner)
    return _answer([_shown(index, one) for index, one in enumerate(accepted)])


def _answer(results: list[BatchItem]) -> BatchAnswer:
    rejected = sum(item.problem is not None for item in results)
    return BatchAnswer(accepted=len(results) - rejected, rejected=rejected, results=results)


def _shown(index: int, found: Acceptance | BaseException) -> BatchItem:
    match found:
        case Acceptance(answer, replayed):
            said = orjson.loads(answer)
            return BatchItem(index=index, id=said["id"], status=said["status"], replayed=replayed)
        case Refused():
            errors = [ProblemField(pointer=e.pointer, code=e.code, detail=e.detail) for e in within(index, found)]
            problem = ItemProblem(code=found.code, title=found.title, detail=str(found), errors=errors)
        case QueueUnavailable():
            code, title, detail = QUEUE_UNAVAILABLE
            problem = ItemProblem(code=code, title=title, detail=detail, errors=[])
        case _:
            raise found
    return BatchItem(index=index, problem=problem)
