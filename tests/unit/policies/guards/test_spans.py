"""Redaction of streams and of whole texts."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.guarded_texts import CANARY, FRAGMENTS, KEY, PROMPT, TEXTS

from policies.guards import exfiltration, keywords, personal_data, secrets
from policies.guards.prompt_leak import PromptLeak
from policies.guards.settings import ExfiltrationConfig, KeywordsConfig, PersonalDataConfig, PromptLeakConfig, Setting
from policies.guards.spans import PATIENCE, SpanGuard, Stream, merged, redact
from policies.guards.verdict import Span, finish

GUARDS: dict[str, SpanGuard] = {
    "secrets": secrets.build(),
    "personal_data": personal_data.build(PersonalDataConfig()),
    "exfiltration": exfiltration.build(ExfiltrationConfig(allow=(".example.com",))),
    "keywords": keywords.build(KeywordsConfig(words=("red fox", "fox", "Straße", "中文 词", "six kinds"))),
    "prompt_leak": PromptLeak(PromptLeakConfig(canary=CANARY)).of(PROMPT),
}


def streamed(guard: SpanGuard, text: str, cuts: list[int], setting: Setting = "redact") -> str:
    stream = Stream((guard.finder,), (setting,))
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    return "".join([stream.feed(text[start:end]) for start, end in pairwise(edges)]) + stream.feed("", last=True)


@pytest.mark.parametrize("kind", GUARDS)
@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 600), max_size=40))
@example(text="call +49 30 901820 now", cuts=list(range(30)))
@example(text=KEY + " tail", cuts=list(range(300)))
@example(text="\u017f\u0131x K\u0130nds://中文 词", cuts=[10])
def test_a_streams_redaction_is_the_whole_texts_for_every_chunking(kind: str, text: str, cuts: list[int]) -> None:
    """Cutting a text changes nothing that the client reads."""
    guard = GUARDS[kind]
    whole = redact(text, finish(guard.scan(text, "assistant")).spans)
    assert streamed(guard, text, cuts) == whole
    assert streamed(guard, text, list(range(len(text)))) == whole


@pytest.mark.parametrize("kind", GUARDS)
@pytest.mark.parametrize("filler", ["A", "word ", "中", "1 ", "-", "9"])
def test_long_runs_stream_as_whole(kind: str, filler: str) -> None:
    """The limits on what a stream holds back change nothing either."""
    size = 2 * PATIENCE
    text = filler * (size // len(filler)) + " sk-proj-abcDEF1234567890abcdef bob@mail.test " + filler * 9000
    guard = GUARDS[kind]
    whole = redact(text, finish(guard.scan(text, "assistant")).spans)
    for step in (997, 4096, 50_000):
        assert streamed(guard, text, list(range(0, len(text), step))) == whole


@pytest.mark.parametrize("kind", GUARDS)
def test_a_scan_in_slices_finds_what_one_search_finds(kind: str) -> None:
    """Spans have the whole text's offsets, wherever slices end."""
    guard = GUARDS[kind]
    text = " and ".join(FRAGMENTS * 9)
    assert finish(guard.scan(text, "user")).spans == merged(guard.finder.find(text))


@given(text=TEXTS, cuts=st.lists(st.integers(0, 600), max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_blocked_stream_ends_before_the_first_span(text: str, cuts: list[int]) -> None:
    """No character of a canary or of the prompt's run leaves, and none after it."""
    guard = PromptLeak(PromptLeakConfig(canary=CANARY)).of(PROMPT)
    spans = finish(guard.scan(text, "assistant")).spans
    sent = streamed(guard, text, cuts, "block")
    assert sent == (text[: spans[0].start] if spans else text)


def test_ordinary_words_are_not_held_back() -> None:
    """A stream is as quick as the next blank."""
    stream = Stream((GUARDS["secrets"].finder,), ("redact",))
    assert [stream.feed(chunk) for chunk in ("Hello", " world", ", how", " are", " you")] == [
        "",
        "Hello ",
        "world, ",
        "how ",
        "are ",
    ]


def test_overlapping_spans_become_one() -> None:
    """The first one names it."""
    assert merged([Span(3, 9, "b"), Span(0, 4, "a"), Span(9, 10, "c")]) == (Span(0, 9, "a"), Span(9, 10, "c"))
    assert redact("0123456789", [Span(3, 9, "b"), Span(0, 4, "a")]) == "[redacted a]9"


@pytest.mark.parametrize("kind", GUARDS)
@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_what_is_found_is_suspected(kind: str, text: str) -> None:
    """The cheap test that lets most of a stream pass unsearched never lets a match pass."""
    finder = GUARDS[kind].finder
    for span in finder.find(text):
        assert finder.suspects(text[span.start : span.end])


FINDERS = tuple(guard.finder for guard in GUARDS.values())
SETTINGS: tuple[Setting, ...] = ("redact", "redact", "flag", "shadow", "block")


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 600), max_size=40))
def test_guards_together_do_to_a_stream_what_they_do_to_the_whole(text: str, cuts: list[int]) -> None:
    """Several guards over one stream: the redacted text up to the first span of the one that blocks."""
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    stream, whole = Stream(FINDERS, SETTINGS), Stream(FINDERS, SETTINGS)
    said = "".join(stream.feed(text[start:end]) for start, end in pairwise(edges)) + stream.feed("", last=True)
    assert said == whole.feed(text, last=True)
    assert stream.blocked == whole.blocked
    blocking = merged(FINDERS[4].find(text))
    end = blocking[0].start if blocking else len(text)
    redacted = merged([*FINDERS[0].find(text), *FINDERS[1].find(text)])
    clipped = [Span(span.start, min(span.end, end), span.what) for span in redacted if span.start < end]
    assert said == redact(text[:end], clipped)


def test_a_stream_says_what_it_found() -> None:
    """By guard and by kind; a guard that only flags changes nothing."""
    stream = Stream(FINDERS, ("flag", "redact", "flag", "shadow", "flag"))
    assert stream.feed("ask bob@mail.test about sk-proj-abcDEF1234567890abcdef", last=True) == (
        "ask [redacted email] about sk-proj-abcDEF1234567890abcdef"
    )
    assert stream.found == [{"api key": 1}, {"email": 1}, {}, {}, {}]
    assert stream.changed
    assert stream.blocked is None


WORDS = "one two three four five six seven eight nine ten"
LONG_PROMPT = " ".join(f"{word}{number}" for number in range(60) for word in WORDS.split())


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 3000), st.integers(0, 1500)).map(
                lambda cut: LONG_PROMPT[cut[0] : cut[0] + cut[1]]
            ),
            st.sampled_from(["bob@mail.test", " and ", ", ", "sk-proj-abcDEF1234567890abcdef", "x" * 700, "one two"]),
        ),
        max_size=6,
    ),
    step=st.integers(1, 300),
    setting=st.sampled_from(["redact", "block"]),
)
def test_a_long_leak_is_told_in_parts_and_reads_as_one(parts: list[str], step: int, setting: Setting) -> None:
    """One placeholder, or one end, however much of the prompt is repeated."""
    leak = PromptLeak(PromptLeakConfig(canary="seven")).of(LONG_PROMPT)
    finders = (leak.finder, GUARDS["personal_data"].finder, GUARDS["secrets"].finder)
    stream, text = Stream(finders, (setting, "redact", "redact")), "".join(parts)
    said = "".join(stream.feed(text[at : at + step]) for at in range(0, len(text), step)) + stream.feed("", last=True)
    spans = merged([span for finder in finders for span in finder.find(text)])
    leaks = merged(leak.finder.find(text))
    end = leaks[0].start if setting == "block" and leaks else len(text)
    others = spans if setting == "redact" else merged([span for finder in finders[1:] for span in finder.find(text)])
    clipped = [Span(span.start, min(span.end, end), span.what) for span in others if span.start < end]
    assert said == redact(text[:end], clipped)


def test_a_leak_is_held_back_in_bounds() -> None:
    """A model that repeats a book does not fill the memory, and a block does not wait for the end."""
    book = " ".join(f"word{number}" for number in range(4000))
    leak = PromptLeak(PromptLeakConfig()).of(book)
    for setting in ("redact", "block"):
        stream = Stream((leak.finder,), (setting,))
        taken = 0
        for at in range(0, len(book), 5):
            stream.feed(book[at : at + 5])
            taken += 5
            assert stream.fed - stream.settled <= 1000
            if stream.blocked is not None:
                break
        assert (taken < 1000) is (setting == "block")


def test_a_word_without_end_is_let_go() -> None:
    """A file in base64 is one word to the guard of prompts: held back whole it would fill the memory, in quadratic time."""
    stream = Stream((GUARDS["prompt_leak"].finder,), ("redact",))
    for _ in range(500):
        stream.feed("QUFB" * 50)
        assert stream.fed - stream.settled <= PATIENCE + 200
