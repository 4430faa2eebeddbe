"""Token counts as providers send them, in either of OpenAI's two namings."""

from proxy.call import Usage


def read_usage(value: object) -> Usage | None:
    """Read a `usage` object of the chat, completions, embeddings or Responses form; None when it is no such object.

    Counts are never negative; what is missing or not a number counts as 0.
    """
    if not isinstance(value, dict):
        return None
    prompt_details = _part(value, "prompt_tokens_details", "input_tokens_details")
    completion_details = _part(value, "completion_tokens_details", "output_tokens_details")
    return Usage(
        prompt=_count(value, "prompt_tokens", "input_tokens"),
        completion=_count(value, "completion_tokens", "output_tokens"),
        cached=_count(prompt_details, "cached_tokens"),
        cache_write=_count(prompt_details, "cache_write_tokens"),
        reasoning=_count(completion_details, "reasoning_tokens"),
        audio=_count(prompt_details, "audio_tokens") + _count(completion_details, "audio_tokens"),
    )


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
            return max(0, int(number))
    return 0
