"""Many submissions in one request: each for itself, or all of them or none."""

from collections.abc import Sequence

from mailer.errors import InvalidSubmission, Overloaded, QueueUnavailable, Refused, within
from service.intake import Acceptance, Intake, Item
from service.problems import QUEUE_UNAVAILABLE
from service.schemas import BatchAnswer, BatchItem, ItemProblem, ProblemField
from service.submissions import MOST_TOGETHER, Batch

KEY = "idempotency_key"


def items_of(batch: Batch) -> list[Item | Refused]:
    """Each item, or what is wrong with it as such."""
    return [_item(job) for job in batch.jobs]


def _item(job: object) -> Item | Refused:
    if not isinstance(job, dict):
        return InvalidSubmission.at("", "must be a JSON object")
    key = job.get(KEY)
    if key is not None and not isinstance(key, str):
        return InvalidSubmission.at(f"/{KEY}", "must be a string")
    return Item({name: value for name, value in job.items() if name != KEY}, key)


async def accept_each(intake: Intake, items: Sequence[Item | Refused], owner: str, place: str = "/jobs") -> BatchAnswer:
    """An item that is refused, or was before, is no trouble of the others. `place` is where they stand in the body.
    Raises QueueUnavailable or Overloaded where that is so of all."""
    found = await intake.accept_each(items, owner)
    later = [one for one in found if isinstance(one, QueueUnavailable | Overloaded)]
    if later and len(later) == len(items):
        raise later[0]
    return _answer([_shown(index, one, place) for index, one in enumerate(found)])


async def accept_together(intake: Intake, items: Sequence[Item | Refused], owner: str) -> BatchAnswer:
    """Raises BatchRefused, another Refused where it is only too early, and QueueUnavailable: nothing was accepted."""
    if len(items) > MOST_TOGETHER:
        detail = f"A strict batch has at most {MOST_TOGETHER} jobs: send several, or one without mode=strict"
        raise InvalidSubmission.at("/jobs", detail)
    accepted = await intake.accept_together(items, owner)
    return _answer([_shown(index, one) for index, one in enumerate(accepted)])


def _answer(results: list[BatchItem]) -> BatchAnswer:
    rejected = sum(item.problem is not None for item in results)
    return BatchAnswer(accepted=len(results) - rejected, rejected=rejected, results=results)


def _shown(index: int, found: Acceptance | BaseException, place: str = "/jobs") -> BatchItem:
    match found:
        case Acceptance(said, _, replayed):
            return BatchItem(index=index, id=said["id"], status=said["status"], replayed=replayed)
        case Refused():
            fields = within(index, found, place)
            errors = [ProblemField(pointer=e.pointer, code=e.code, detail=e.detail) for e in fields]
            problem = ItemProblem(code=found.code, title=found.title, detail=str(found), errors=errors)
        case QueueUnavailable():
            code, title, detail = QUEUE_UNAVAILABLE
            problem = ItemProblem(code=code, title=title, detail=detail, errors=[])
        case _:
            raise found
    return BatchItem(index=index, problem=problem)
