"""The command that prints records, from the files alone: it works beside a running instance and without one."""

import contextlib
import os
import sys
import time
from pathlib import Path

import msgspec

from proxy.config import Config
from proxy.segments import Tail

_PAUSE = 0.25


def records(config: Config, *, follow: bool) -> int:
    """Print a line of JSON for each record in the outbox, the oldest first; with `follow` until interrupted."""
    tail = Tail(Path(config.server.state_dir) / "outbox", 0)
    encode = msgspec.json.Encoder().encode
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        while True:
            batch = tail.read()
            for each in batch:
                os.write(sys.stdout.fileno(), encode(each.record) + b"\n")
            if not batch and not follow:
                break
            if not batch:
                time.sleep(_PAUSE)
    return 0
