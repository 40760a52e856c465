"""arq and aiosmtplib as their READMEs show them: arq's defaults (10 jobs at a time, polling each 0.5 s) but for
its two log lines a job, and a new connection for each mail. As a program it fills the queue."""

import asyncio
from typing import Any

import aiosmtplib
from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.programs.arena import NUMBERS, REDIS_URL, SMTP_HOST, SMTP_PORT
from benchmarks.peers.programs.plain_mail import message

LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}
SETTINGS = RedisSettings.from_dsn(REDIS_URL)


async def send_receipt(_: dict[Any, Any], number: int) -> None:
    await aiosmtplib.send(message(number), hostname=SMTP_HOST, port=SMTP_PORT)


class WorkerSettings:
    functions = (send_receipt,)
    redis_settings = SETTINGS


async def fill() -> None:
    redis = await create_pool(SETTINGS)
    for number in NUMBERS:
        await redis.enqueue_job("send_receipt", number)
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(fill())
