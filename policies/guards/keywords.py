"""Words the operator does not want in a text."""

import msgspec

from policies.guards.literals import literals
from policies.guards.spans import SpanAction, SpanGuard


class KeywordsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="keywords", tag_field="kind"):
    """Literal texts, matched whatever their case; as whole words unless told otherwise."""

    words: list[str]
    action: SpanAction = "block"
    whole_words: bool = True


def build(config: KeywordsConfig) -> SpanGuard:
    """The guard; ValueError for an empty list or an empty word."""
    return SpanGuard("keywords", literals(config.words, "keyword", whole_words=config.whole_words), config)
