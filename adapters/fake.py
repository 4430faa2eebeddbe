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
