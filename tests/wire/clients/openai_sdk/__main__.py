"""The official Python SDK, unchanged, against OPENAI_BASE_URL. The same program runs on its 2.x and its 3.x."""

from openai_sdk import chat, failures, others, responses, streams, tools

import sections

sections.report(
    {
        **chat.SECTIONS,
        **streams.SECTIONS,
        **tools.SECTIONS,
        **failures.SECTIONS,
        **others.SECTIONS,
        **responses.SECTIONS,
    }
)
