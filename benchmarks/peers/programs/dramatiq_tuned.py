"""Dramatiq tuned by hand: Postroom's finished bytes on connections of smtplib that each thread keeps, the threads being
greenlets, as its documentation suggests for work on the network. As a program it fills the queue."""

import smtplib
import threading

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.mail import SENDER, recipient
from benchmarks.peers.programs.arena import NUMBERS, REDIS_URL, SMTP_HOST, SMTP_PORT
from benchmarks.peers.programs.own_bytes import finished

dramatiq.set_broker(RedisBroker(url=REDIS_URL))
_kept = threading.local()


def _connection() -> smtplib.SMTP:
    if getattr(_kept, "smtp", None) is None:
        _kept.smtp = smtplib.SMTP(SMTP_HOST, SMTP_PORT)
    smtp: smtplib.SMTP = _kept.smtp
    return smtp


@dramatiq.actor
def send_receipt(number: int) -> None:
    content = finished(number)
    try:
        _connection().sendmail(SENDER, [recipient(number)], content)
    except smtplib.SMTPServerDisconnected:
        _kept.smtp = None
        _connection().sendmail(SENDER, [recipient(number)], content)


if __name__ == "__main__":
    for number in NUMBERS:
        send_receipt.send(number)
