"""The queries of POST /jobs and POST /jobs/batch, read here because FastAPI's way costs too much for what is asked most
often. What is wrong in one is told as FastAPI tells it.
"""

from typing import Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request

Query = TypeVar("Query", bound=BaseModel)


class SubmitQuery(BaseModel):
    dry_run: bool = Field(False, description="200 with what would be sent: nothing is recorded, fetched or sent.")


class BatchQuery(BaseModel):
    mode: Literal["permissive", "strict"] = Field(
        "permissive", description="`strict`: all of them or none, and 100 at the most. Else each for itself."
    )


def read_query(request: Request, model: type[Query]) -> Query:
    """Of a parameter that is there twice, the last one counts. Raises RequestValidationError."""
    try:
        return model.model_validate(dict(request.query_params) if request.scope["query_string"] else {})
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("query", *item["loc"])} for item in error.errors()]) from error
