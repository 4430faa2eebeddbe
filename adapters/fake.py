"""The scripted provider: OpenAI's API answered by a script, always labelled as fake. No network, no model, no key.

**The model name is the script**: `base[+modifier[=value]]…`, for example `echo+delay=200ms+every=20ms` or
`echo+status=429+retry-after=2+fails=1`. A name whose base is unknown (`gpt-4o`) is plain `echo`; a known base with a
bad modifier is a 400 with code `fake_script_invalid`. Durations are `20ms`, `1.5s`; lists are joined by commas.

Bases
    echo        the last user text (a forced `tool_choice` and a `response_format` of JSON are honoured)
    fixed       `text` (below), by default "This is a fake answer."
    long=N      N words (default 200): "word0 word1 …"
    tools       calls the tool `tool_choice` names, else the first one; arguments fit its schema; after a tool result: text
    json        JSON that satisfies `response_format` (json_schema), else {"echo": …}
    reasoning   `reasoning_content` first, then the echo
    refusal     `refusal` text, content null
    logprobs    echo with logprobs though none were asked for

Shape     text=a_b (underscores become spaces) · chunks=N (content in N events) · calls=N (tools: N parallel calls)
          dims=N (embedding size when the request names none; default 1536)
Time      delay=T (before the head) · first=T (before the first content) · every=T (between content events)
          drip=N (N bytes a write) · pace=T (between those writes)
Errors    status=N (OpenAI's error body for it) · error=NAME (`context_length_exceeded`, `content_policy_violation`,
          `content_filter`, `insufficient_quota`, `rate_limit_exceeded`, `invalid_api_key`, `model_not_found`,
          `server_is_overloaded`, `unsupported_parameter`) · refuses=MEMBER (400 naming the request member when it is there)
          retry-after=SECONDS · retry-after-ms=N · x-ms-retry-after-ms=N · retry-date=SECONDS (as HTTP date) · should-retry=true
Faults    fault=NAME, one of
    refuse, dns, tls, connect-timeout   in process: that TransportError; over HTTP (too late by then): reset
    reset, fin, garbage, stall          instead of the head: RST, FIN, bytes that are no HTTP, silence
    reset-body, fin-body, stall-body    after the head, before any body
    stall-content                       stream: role event, then silence; whole: as stall-body
    stall-mid, cut, cut-reset, cut-clean  half of the body (`at=K`: K content events), then silence, FIN, RST, a clean end
    malformed, error-mid                half of the events, then an event that is no JSON (and the rest), an error event
    error-first                         the first event is an error (whole: as error-200)
    error-200, html, json-invalid, short  200 with an error body, an HTML page, broken JSON, less than Content-Length
    json-for-stream, empty              whole JSON though a stream was asked for; an empty body (stream: only [DONE])
When      fails=K (only the first K calls are hurt) · per=model|user|text|key (whose calls are counted: this model name's,
          or apart for each `user` member or x-fake-key header, each last user text, each Authorization)
          seq=503,reset,ok (the i-th call's hurt: a status, an error, a fault or ok; the last one stays)
          rate=0.3 (the share of calls hurt) · seed=N · pick=503,cut,stall (hurt by one of these, drawn at random)
Dialects  sse=NAME,NAME…: crlf, cr, no-space, bom, comments, ids, retry, event, ping-event, empty-data, multiline,
          done-space, no-done, no-finish, last-no-blank, no-role, role-each, no-index, no-created, no-object, no-id,
          choices-null, delta-null, error-null, tool-calls-null, tool-no-index, tool-no-id, tool-index-1, tool-stop,
          usage-always, usage-content, usage-each, usage-none, usage-no-choices, error-text, error-event, obfuscation

Every answer has `system_fingerprint` "fp_fake" where the API has that member, `model` = the script, an id with `fake` in
it and an `x-request-id`. Usage counts words.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from adapters.fake_answers import MAKERS, Made, Question, RefusedError, models
from adapters.fake_content import text_of
from adapters.fake_script import FAULTS, Script, ScriptError, read_script
from adapters.fake_shapes import Json, error_object
from adapters.fake_steps import Break, Pause, Scripted, Step, drip, steps_of_stream, steps_of_whole

_INSTEAD: frozenset[str] = frozenset({"refuse", "dns", "tls", "connect-timeout", "reset", "fin", "garbage", "stall"})
_NEVER_STREAMED = frozenset({"error-200", "html", "json-invalid", "short", "json-for-stream"})


class Engine:
    """Plays the scripts. Its state is what the `When` modifiers count. `clock` is unix seconds."""

    def __init__(self, clock: Callable[[], float], seed: int = 0) -> None:
        self._clock = clock
        self._seed = seed
        self._serial = 0
        self._calls: Counter[tuple[str, ...]] = Counter()
        self._draws: dict[str, random.Random] = {}

    def reset(self) -> None:
        """Forget every count and draw."""
        self._calls.clear()
        self._draws.clear()

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Scripted:
        """What to do about this request. `url` may be a bare path; header names are lower case."""
        self._serial += 1
        try:
            return self._answer(method, unquote(urlsplit(url).path).rstrip("/"), headers, body)
        except msgspec.DecodeError:
            return self._plain(*error_object("400", message="We could not parse the JSON body of your request."))
        except ScriptError as error:
            status, shape = error_object("400", message=str(error), param="model")
            shape["error"]["code"] = "fake_script_invalid"
            return self._plain(status, shape)
        except RefusedError as error:
            return self._plain(*error_object(error.status, message=str(error), param=error.param))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return self._plain(*error_object("400", message=f"A member of the request has the wrong type: {error}"))

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Scripted:
        maker = next((make for end, make in MAKERS.items() if path.endswith(end)), None)
        if maker is None and "/models" in path and method in {"GET", "HEAD"}:
            return self._plain(200, models(path))
        if maker is None:
            raise RefusedError(f"Invalid URL ({method} {path})", None, "404")
        if method != "POST":
            raise RefusedError(f"Not allowed to {method} on {path}.", None, "405")
        asked = msgspec.json.decode(body, type=dict[str, Any])
        model = asked.get("model") or path.partition("/deployments/")[2].partition("/")[0]
        if not isinstance(model, str) or not model:
            raise RefusedError("you must provide a model parameter", "model")
        script = read_script(model)
        hurt = self._hurt(script, asked, headers)
        return self._played(script, hurt, maker(Question(asked, script, self._serial, int(self._clock()))))

    def _plain(self, status: int, shape: Json) -> Scripted:
        data = msgspec.json.encode(shape)
        return Scripted(status, self._headers("application/json"), (), (data,), len(data))

    def _headers(self, kind: str) -> dict[str, str]:
        return {
            "content-type": kind,
            "x-request-id": f"req_fake_{self._serial}",
            "openai-version": "2020-10-01",
            "openai-processing-ms": "1",
        }

    def _hurt(self, script: Script, body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """What happens to this call, by the script's counts and draws."""
        key = (script.name, _whose(script, body, headers))
        number = self._calls[key]
        self._calls[key] += 1
        if script.refuses and script.refuses in body:
            return "unsupported_parameter"
        if script.seq:
            return script.seq[min(number, len(script.seq) - 1)]
        if 0 <= script.fails <= number:
            return "ok"
        seed = f"{self._seed} {script.seed} {script.name}"
        draw = self._draws.setdefault(script.name, random.Random(seed))  # noqa: S311  # faults, not secrets
        if script.rate < 1.0 and draw.random() >= script.rate:
            return "ok"
        return draw.choice(script.pick) if script.pick else script.hurt

    def _played(self, script: Script, hurt: str, made: Made) -> Scripted:
        before: tuple[Step, ...] = (Pause(script.delay),) if script.delay else ()
        if hurt in _INSTEAD:
            broken = Break(hurt)  # type: ignore[arg-type]  # membership was just tested
            return Scripted(200, {}, (*before, broken), (), 0, script.name)
        if hurt != "ok" and hurt not in FAULTS:
            return self._refused(script, hurt, before)
        if made.events is not None and hurt not in _NEVER_STREAMED:
            headers = self._headers("text/event-stream; charset=utf-8") | {"cache-control": "no-cache"}
            steps = drip(steps_of_stream(script, hurt, made.events), script)
            return Scripted(200, headers, before, steps, None, script.name)
        if script.first:
            before = (*before, Pause(script.first))
        steps, length = steps_of_whole(hurt, msgspec.json.encode(made.whole))
        kind = "text/html; charset=utf-8" if hurt == "html" else "application/json"
        return Scripted(200, self._headers(kind), before, drip(steps, script), length, script.name)

    def _refused(self, script: Script, hurt: str, before: tuple[Step, ...]) -> Scripted:
        refused = hurt == "unsupported_parameter" and script.refuses
        message = f"Unsupported parameter: '{script.refuses}' is not supported with this model." if refused else ""
        status, shape = error_object(hurt, message=message, param=script.refuses or None if refused else None)
        data = msgspec.json.encode(shape)
        headers = self._headers("application/json")
        for name, value in script.headers:
            if name == "retry-date":
                headers["retry-after"] = formatdate(self._clock() + float(value), usegmt=True)
            else:
                headers[name] = value
        return Scripted(status, headers, before, (data,), len(data), script.name)


def _whose(script: Script, body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The key under which this call is counted."""
    if script.per == "user":
        return str(body.get("user") or headers.get("x-fake-key", ""))
    if script.per == "key":
        return headers.get("authorization", headers.get("api-key", ""))
    if script.per == "text":
        said = body.get("messages") or body.get("input") or body.get("prompt")
        return text_of(said[-1].get("content")) if isinstance(said, list) and isinstance(said[-1], dict) else str(said)
    return ""
