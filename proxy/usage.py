"""Token counts as providers send them, in either of OpenAI's two namings."""

from typing import Annotated

import msgspec

from proxy.call import Usage

_ORDINARY = ("", "auto", "default", "standard", "on_demand")
_TIER_NAME = 32
_MOST = 10**12
"""No call has more tokens: a larger count is a provider's mistake, and its price must still fit into 64 bits."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    cache_creation_tokens: _Count = 0
    """litellm's name for them."""
    audio_tokens: _Count = 0


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: _Count = 0
    audio_tokens: _Count = 0


class _View(msgspec.Struct):
    """What OpenAI sends for most endpoints. Whatever does not fit it is read leniently, at several times the cost."""

    prompt_tokens: _Count
    completion_tokens: _Count = 0
    total_tokens: _Count = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_decode = msgspec.json.Decoder(_View).decode


def parse_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """Read a `usage` member; None for one that is no object. `raw` is valid JSON or empty.

    What the total has beyond its two parts is reasoning that a provider (Gemini's endpoint, xAI) leaves out of
    `completion_tokens` and charges as output all the same: here it is counted there.
    """
    try:
        return _usage_of(_decode(raw))
    except msgspec.DecodeError:  # not as OpenAI sends it, empty, or a number that no float holds
        try:
            return _leniently(msgspec.json.decode(raw))
        except msgspec.DecodeError:
            return None


def read_usage(value: object) -> Usage | None:
    """The same of a `usage` object of the chat, completions, embeddings or Responses form, decoded already.

    Counts are never negative and at most 10^12; what is missing or not a number counts as 0.
    """
    try:
        return _usage_of(msgspec.convert(value, _View))
    except msgspec.ValidationError:
        return _leniently(value)


def _usage_of(view: _View) -> Usage:
    prompt, completion = view.prompt_tokens_details, view.completion_tokens_details
    return Usage(
        view.prompt_tokens,
        max(view.completion_tokens, view.total_tokens - view.prompt_tokens),
        cached=prompt.cached_tokens if prompt else 0,
        cache_write=(prompt.cache_write_tokens or prompt.cache_creation_tokens) if prompt else 0,
        reasoning=completion.reasoning_tokens if completion else 0,
        audio=(prompt.audio_tokens if prompt else 0) + (completion.audio_tokens if completion else 0),
        audio_output=completion.audio_tokens if completion else 0,
    )


def _leniently(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, total = _count(value, "prompt_tokens", "input_tokens"), _count(value, "total_tokens")
    prompt_details = _part(value, "prompt_tokens_details", "input_tokens_details")
    completion_details = _part(value, "completion_tokens_details", "output_tokens_details")
    return Usage(
        prompt=prompt,
        completion=max(_count(value, "completion_tokens", "output_tokens"), total - prompt),
        cached=_count(prompt_details, "cached_tokens"),
        cache_write=_count(prompt_details, "cache_write_tokens", "cache_creation_tokens"),
        reasoning=_count(completion_details, "reasoning_tokens"),
        audio=_count(prompt_details, "audio_tokens") + _count(completion_details, "audio_tokens"),
        audio_output=_count(completion_details, "audio_tokens"),
    )


def in_tier(usage: Usage | None, tier: object) -> Usage | None:
    """The same, served in this tier; the ordinary one has no name."""
    if usage is None or not isinstance(tier, str) or tier in _ORDINARY:
        return usage
    return msgspec.structs.replace(usage, tier=tier[:_TIER_NAME])


def _part(value: dict[str, object], *names: str) -> dict[str, object]:
    for name in names:
        part = value.get(name)
        if isinstance(part, dict):
            return part
    return {}


def _count(value: dict[str, object], *names: str) -> int:
    for name in names:
        number = value.get(name)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return int(min(max(0, number), _MOST))
    return 0
