"""Call ids: 128 bits, in order of time, so that a log sorted by id is sorted by when."""

import os
import time


def new_id() -> str:
    """32 hexadecimal digits: 48 bits of Unix milliseconds, 80 random bits. Fits a trace id of OpenTelemetry."""
    return (int(time.time() * 1000).to_bytes(6) + os.urandom(10)).hex()
