"""What tests of several folders share."""

from support.databases import postgres_server, postgres_url, url

__all__ = ["postgres_server", "postgres_url", "url"]
