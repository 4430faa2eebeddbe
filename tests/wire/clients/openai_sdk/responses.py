"""The Responses API: whole, streamed, structured and with tools."""

import json
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from openai_sdk.chat import Person

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["東京"]}},
        "required": ["city"],
    },
    "strict": False,
}


def responses() -> Any:
    with OpenAI() as client:
        answer = client.responses.create(model="gpt-4o", input="Grüße", instructions="Repeat.")
        return {
            "object": answer.object,
            "status": answer.status,
            "text": answer.output_text,
            "usage": answer.usage.to_dict() if answer.usage else None,
            "request_id": answer._request_id,
        }


def responses_stream() -> Any:
    with OpenAI() as client:
        events = list(client.responses.create(model="gpt-4o", input="Grüße aus der Ferne", stream=True))
        return {
            "kinds": [event.type for event in events],
            "numbers": [event.sequence_number for event in events],
            "text": "".join(event.delta for event in events if event.type == "response.output_text.delta"),
        }


async def responses_helper() -> Any:
    async with AsyncOpenAI() as client, client.responses.stream(model="gpt-4o", input="Grüße") as events:
        return (await events.get_final_response()).output_text


def responses_parse() -> Any:
    with OpenAI() as client:
        return client.responses.parse(model="fake/json", input="x", text_format=Person).output_parsed.model_dump()


def responses_tools() -> Any:
    with OpenAI() as client:
        asked: list[Any] = [{"role": "user", "content": "How is the weather?"}]
        first = client.responses.create(model="tools", input=asked, tools=[TOOL])
        (call,) = [item for item in first.output if item.type == "function_call"]
        told: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "22 °C"}
        second = client.responses.create(model="tools", input=[*asked, *first.output, told], tools=[TOOL])
        return {"name": call.name, "arguments": json.loads(call.arguments), "answer": second.output_text}


def responses_stateful() -> Any:
    """State lives with whom it belongs to: a member that asks for it is refused by name."""
    with OpenAI(max_retries=0) as client:
        try:
            client.responses.create(model="gpt-4o", input="x", previous_response_id="resp_1")
        except openai.BadRequestError as error:
            return {"param": error.param, "type": error.type, "message": error.message}
    return None


SECTIONS = {
    "responses": responses,
    "responses_stream": responses_stream,
    "responses_helper": responses_helper,
    "responses_parse": responses_parse,
    "responses_tools": responses_tools,
    "responses_stateful": responses_stateful,
}
