"""Hands finished mails to Postfix, on a few connections at once, since it waits for the disk at each mail's end."""

import os
import smtplib
from concurrent.futures import ThreadPoolExecutor

from benchmarks.mail import SENDER, recipient
from benchmarks.peers.programs.arena import NUMBERS, SMTP_HOST
from benchmarks.peers.programs.own_bytes import finished

CONNECTIONS = 8
TIMEOUT_S = 60.0


def hand_over(numbers: range) -> None:
    with smtplib.SMTP(SMTP_HOST, int(os.environ["ARENA_SUBMISSION_PORT"]), timeout=TIMEOUT_S) as smtp:
        for number in numbers:
            smtp.sendmail(SENDER, [recipient(number)], finished(number))


if __name__ == "__main__":
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(hand_over, (NUMBERS[first::CONNECTIONS] for first in range(CONNECTIONS))))
