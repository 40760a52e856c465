"""The arena as a program of a peer sees it: its environment."""

import os

REDIS_URL = os.environ["ARENA_REDIS_URL"]
SMTP_PORT = int(os.environ["ARENA_SMTP_PORT"])
SMTP_HOST = "127.0.0.1"
NUMBERS = range(1, int(os.environ["ARENA_MAILS"]) + 1)
