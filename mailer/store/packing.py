"""Small JSON values made smaller, by a dictionary of what most of them say: the queue server keeps them by the million,
and a record whose values all have 64 octets at most takes less than half of what it takes otherwise. Pure.

The trap: what was packed with a dictionary can be read with no other. A new one needs a new first octet.
"""

import zlib

_FIRST = b"\x01"
"""No JSON begins with it."""
_WINDOW = -11
"""Raw deflate (RFC 1951) with a window of 2 KB: the dictionary has to fit into it."""
MOST_OCTETS = 4_000_000
"""Of one value, unpacked."""

# What stands nearer to the end is told in fewer bits.
_WORDS = b"".join(
    (
        b'"delays_s":null,"base_s":null,"cap_s":null,"give_up_s":null,"max_attempts":null}',
        b'{"name":"user.signed_up","id":"","source":null,"subject":null,"time":null}',
        b'"phase":"fetch","outcome":"deferred","phase":"connect","outcome":"failed_over","phase":"rcpt",',
        b'"outcome":"failed"',
        b'"code":null,"text":"The relay closed the connection","code":450,"4.7.1","code":451,"4.3.0","code":550,',
        b'"5.1.1"User unknown","Greylisted, try again later","Service not available","timed out",',
        b'"cannot be reached: Connection refused","0 - connected to  port 25","0 < 220  ESMTP","0 > EHLO ",',
        b'"1 < 250 PIPELINING SIZE STARTTLS 8BITMIME SMTPUTF8","0 > STARTTLS","0 > AUTH PLAIN ***",',
        b'"235 2.7.0 Authentication successful",',
        b'"next_attempt_at":17,"queue_id":"","timings":{"connect":0,"banner":0,"ehlo":0,"tls":0,"auth":0,',
        b'"status":"deferred","status":"failed","field":"cc","field":"bcc","name":"","in_doubt":"',
        b'{"number":1,"at":17,"duration_ms":1,"phase":"dot","outcome":"sent",',
        b'"reply":{"code":250,"text":"Ok: queued as ","enhanced":"2.0.0"},"relay":"smtp.example.com:587",',
        b'"next_attempt_at":null,"queue_id":null,"timings":{"envelope":0,"content":0,"journal":1,"dot":1},"conversation":[',
        b'"0 - a connection that carried 1 mails before","0 > MAIL FROM:<","0 > RCPT TO:<","0 > DATA",',
        b'"1 < 250 2.1.0 Ok","1 < 250 2.1.5 Ok","1 < 354 End data with <CR><LF>.<CR><LF>",',
        b'"1 > [ octets of content]","2 > .","3 < 250 2.0.0 Ok: queued as "],"row":null}',
        b'{"relay":"","number":1,"at":17',
        b'[{"address":{"email":"@example.com","name":null},"field":"to","status":"pending","reply":null,"in_doubt":null}]',
        b'.com","name":null},"field":"to","status":"sent",',
        b'"reply":{"code":250,"text":"Ok","enhanced":"2.0.0"},"in_doubt":null},{"address":{"email":"',
    )
)
_PACKER = zlib.compressobj(level=6, wbits=_WINDOW, memLevel=4, zdict=_WORDS)


def pack(text: bytes) -> bytes:
    """Smaller, or as it is. The same text gives the same octets, within one process."""
    packer = _PACKER.copy()
    packed = _FIRST + packer.compress(text) + packer.flush()
    return packed if len(packed) < len(text) else text


def unpack(stored: bytes) -> bytes:
    """What `pack` was given. Raises ValueError for what it cannot have written."""
    if not stored.startswith(_FIRST):
        return stored
    reader = zlib.decompressobj(_WINDOW, _WORDS)
    try:
        text = reader.decompress(stored[1:], MOST_OCTETS)
    except zlib.error as error:
        raise ValueError("a value that cannot be unpacked") from error
    if not reader.eof:
        raise ValueError("a value that is cut off, or has too many octets")
    return text
