"""The mail that everything here sends: one template, other data each time. Deterministic."""

from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "receipt"
SENDER = "hello@postroom.example"
_GOODS = (
    "Kettle",
    "Bread knife",
    "Linen towel",
    "Pepper mill",
    "Tea tin",
    "Oven glove",
    "Salt & sugar set",
    "Chopping board",
)


def recipient(number: int) -> str:
    return f"customer{number}@example.com"


def variables(number: int) -> dict[str, Any]:
    """What the template of mail `number` is rendered with."""
    items: list[dict[str, Any]] = [
        {
            "name": name,
            "sku": f"SKU-{number % 1000:04}-{place}",
            "quantity": 1 + place % 3,
            "amount": _money(number, place),
        }
        for place, name in enumerate(_GOODS, start=1)
    ]
    return {
        "order": {
            "number": f"A-{number:07}",
            "customer": f"Ada Customer <{number}>",
            "currency": "EUR",
            "items_bought": items,
            "total": f"{sum(float(item['amount']) for item in items):.2f}",
            "address": f"{number} Example Street, 12345 Sampleton",
            "note": "Please ring twice." if number % 2 else None,
            "url": f"https://shop.example/orders/A-{number:07}?from=mail",
        }
    }


def job(number: int) -> dict[str, Any]:
    """The body of its POST /jobs."""
    return {"template": TEMPLATE, "to": recipient(number), "data": variables(number)}


def _money(number: int, place: int) -> str:
    return f"{(number * 7 + place * 131) % 9000 / 100 + 5:.2f}"
