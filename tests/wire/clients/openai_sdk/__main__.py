"""The official Python SDK, unchanged, against OPENAI_BASE_URL. The same program runs on its 2.x and its 3.x.

Its arguments name the parts to run.
"""

import sys

import sections
from openai_sdk import chat, failures, others, responses, streams, tools

PARTS = {
    "chat": chat.SECTIONS,
    "failures": failures.SECTIONS,
    "others": others.SECTIONS,
    "responses": responses.SECTIONS,
    "streams": streams.SECTIONS,
    "tools": tools.SECTIONS,
}

sections.report({name: section for part in sys.argv[1:] for name, section in PARTS[part].items()})
