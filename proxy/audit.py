"""One line for everything an administrator does, on the logger `lockgate.audit`: who, what, to what, from where."""

import logging
import os

import msgspec

logger = logging.getLogger("lockgate.audit")


def audit(actor: str, action: str, subject: str, *, peer: str = "", members: tuple[str, ...] = ()) -> None:
    """`members` names what was changed; values and secrets are never written."""
    line = {"actor": actor, "action": action, "subject": subject, "peer": peer, "members": members}
    logger.info(msgspec.json.encode({key: value for key, value in line.items() if value}).decode())


def audit_command(action: str, subject: str, members: tuple[str, ...] = ()) -> None:
    """The same of a command on this machine, by whoever runs it."""
    audit(f"command line: uid {os.getuid()}", action, subject, members=members)
