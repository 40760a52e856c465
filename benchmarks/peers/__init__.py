"""The other tools of this field: the one list of them. Two are as their READMEs begin, naive arq and Dramatiq; the
others are as their own documentation recommends for speed.

What their workers run stands in programs/ and bullmq/. Nothing of it is imported here, since each worker imports this.
"""

from benchmarks.peers.environments import BENCH, BULLMQ, Node, OurPython, PeersPython
from benchmarks.peers.peer import Peer
from benchmarks.peers.postfix import Postfix
from benchmarks.peers.queued import Queued

_GEVENT = str(BENCH / "python" / "bin" / "dramatiq-gevent")
_PROGRAMS = f"{__name__}.programs"
_ARQ, _PLAIN, _TUNED, _CELERY = (
    f"{_PROGRAMS}.{name}" for name in ("naive_arq", "dramatiq_plain", "dramatiq_tuned", "celery_plain")
)
_GREENLETS = 20  # more, or messages fetched further ahead, changed nothing

PEERS: tuple[Peer, ...] = (
    Queued(
        "naive arq",
        OurPython(),
        ("-m", _ARQ),
        lambda processes: [("-m", "arq", f"{_ARQ}.WorkerSettings", "--custom-log-dict", f"{_ARQ}.LOGGING")] * processes,
    ),
    Queued(
        "Dramatiq",
        PeersPython(),
        ("-m", _PLAIN),
        lambda processes: [("-m", "dramatiq", _PLAIN, "--processes", f"{processes}")],
    ),
    Queued(
        "Dramatiq, tuned",
        PeersPython(),
        ("-m", _TUNED),
        lambda processes: [(_GEVENT, _TUNED, "--processes", f"{processes}", "--threads", f"{_GREENLETS}")],
    ),
    Queued(
        "Celery",
        PeersPython(),
        ("-m", _CELERY),
        lambda processes: [
            ("-m", "celery", "--app", _CELERY, "worker", "--pool", "prefork", "--concurrency", f"{processes}")
        ],
    ),
    Queued(
        "BullMQ + nodemailer",
        Node(),
        (str(BULLMQ / "fill.cjs"),),
        lambda processes: [(str(BULLMQ / "worker.cjs"),)] * processes,
    ),
    Postfix(),
)
