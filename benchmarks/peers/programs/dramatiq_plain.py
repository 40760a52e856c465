"""Dramatiq with its Redis broker and defaults (8 threads), and smtplib as the standard library's documentation shows
it: a connection for each mail. As a program it fills the queue."""

import smtplib

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.programs.arena import NUMBERS, REDIS_URL, SMTP_HOST, SMTP_PORT
from benchmarks.peers.programs.plain_mail import message

dramatiq.set_broker(RedisBroker(url=REDIS_URL))


@dramatiq.actor
def send_receipt(number: int) -> None:
    with smtplib.SMTP(SMTP_HOST, SMTP_PORT) as smtp:
        smtp.send_message(message(number))


if __name__ == "__main__":
    for number in NUMBERS:
        send_receipt.send(number)
