"""Links and images to hosts outside an allow-list: a rendered answer fetches them and so carries data away."""

import re
import urllib.parse
from typing import Final

from policies.guards.settings import ExfiltrationConfig
from policies.guards.spans import Pattern, Patterns, SpanGuard

_URL: Final = r"(?:https?:|ftp:|wss?:)?(?:/|\\){2}[!#-&*-;=?-~]{1,3800}"
# Where markdown and HTML put an address: after `](`, after `]: `, after src=, href= and the like, and within <>.
_PLACE: Final = (
    r"(?:\]\(\s{0,8}<?|\]:\s{0,8}<?|\b(?:src|href|srcset|action|poster|data|background|cite|formaction)\s{0,4}=\s{0,4}[\"']?"
    r"|\burl\(\s{0,4}[\"']?|<(?=[a-z]{2,5}:))"
)


_SUSPECTS: Final = re.compile(r"[/\\]{2}")


def exfiltration(allow: tuple[str, ...]) -> Patterns:
    """The finder: the span is the address, so that the words of a link stay."""
    hosts = {host.lower() for host in allow}

    def foreign(url: str) -> bool:
        try:
            host = (urllib.parse.urlsplit(url.replace("\\", "/")).hostname or "").rstrip(".")
        except ValueError:
            return True
        below = {f".{host}", *(host[dot:] for dot, char in enumerate(host) if char == ".")}
        return host not in hosts and hosts.isdisjoint(below)

    regex = re.compile(rf"(?i:{_PLACE})(?=((?i:{_URL})))", re.ASCII)
    return Patterns(
        [Pattern("link", r"(?i)(?:\]\(|\]:|=|<|\()\s*[\"'<]?(?:[a-z]{2,5}:)?[/\\]{2}", regex, foreign)],
        suspects=_SUSPECTS,
    )


def build(config: ExfiltrationConfig) -> SpanGuard:
    """The guard."""
    return SpanGuard("exfiltration", exfiltration(config.allow), repr(config.allow))
