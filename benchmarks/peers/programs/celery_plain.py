"""Celery with Redis, set for short tasks as its guide on optimizing says (no results, many messages fetched ahead), and
smtplib as the standard library's documentation shows it. As a program it fills the queue."""

import smtplib

from celery import Celery

from benchmarks.peers.programs.arena import NUMBERS, REDIS_URL, SMTP_HOST, SMTP_PORT
from benchmarks.peers.programs.plain_mail import message

app = Celery("receipts", broker=REDIS_URL)
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 128


@app.task(name="send_receipt")
def send_receipt(number: int) -> None:
    with smtplib.SMTP(SMTP_HOST, SMTP_PORT) as smtp:
        smtp.send_message(message(number))


if __name__ == "__main__":
    for number in NUMBERS:
        send_receipt.delay(number)
