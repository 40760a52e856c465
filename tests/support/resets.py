"""RSET, whose answer nobody waits for: but for a test that wants to know what became of the connection."""

from tests.support.waiting import until
from worker.relays.pool import Pool
from worker.relays.router import Router


async def resets_answered(where: Router | Pool) -> None:
    """Each relay has answered what it was told, or hung up."""
    pools = where._pools if isinstance(where, Router) else (where,)

    async def in_order() -> bool:
        idle = [connection.wire for pool in pools for connection in pool._idle]
        return not any(wire.owes and wire.is_open for wire in idle)

    await until(in_order, what="an answer to each RSET")
