"""Words the operator does not want in a text."""

from policies.guards.literals import literals
from policies.guards.settings import KeywordsConfig
from policies.guards.spans import SpanGuard


def build(config: KeywordsConfig) -> SpanGuard:
    """The guard; ValueError for an empty list or an empty word."""
    finder = literals(config.words, "keyword", whole_words=config.whole_words)
    return SpanGuard("keywords", finder, f"{config.words} {config.whole_words}")
