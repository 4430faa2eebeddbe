"""Function calling: asked for, answered, told back, whole and streamed."""

import json
from typing import Any

from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from openai_sdk.chat import Person

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["東京 “Tokyo”"]},
                "days": {"type": "integer", "minimum": 3},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
NOTHING: Any = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
ASK: list[Any] = [{"role": "user", "content": "How is the weather in 東京?"}]


def _call(message: Any) -> Any:
    (call,) = message.tool_calls
    return {
        "id": call.id,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "type": call.type,
    }


def tools() -> Any:
    with OpenAI() as client:
        first = client.chat.completions.create(model="tools", messages=ASK, tools=[WEATHER])
        call = _call(first.choices[0].message)
        told: Any = {"role": "tool", "tool_call_id": call["id"], "content": "22 °C"}
        history = [*ASK, first.choices[0].message, told]
        second = client.chat.completions.create(model="tools", messages=history, tools=[WEATHER])
        return {
            "call": call,
            "content": first.choices[0].message.content,
            "finish": first.choices[0].finish_reason,
            "answer": second.choices[0].message.content,
        }


def tools_without_arguments() -> Any:
    with OpenAI() as client:
        answer = client.chat.completions.create(model="tools", messages=ASK, tools=[NOTHING], tool_choice="required")
        return answer.choices[0].message.tool_calls[0].function.arguments


def tools_stream() -> Any:
    with OpenAI() as client:
        parts: dict[int, dict[str, Any]] = {}
        finish = None
        for chunk in client.chat.completions.create(
            model="fake/tools+calls=2", messages=ASK, tools=[WEATHER, NOTHING], stream=True
        ):
            for delta in chunk.choices[0].delta.tool_calls or []:
                part = parts.setdefault(delta.index, {"ids": [], "names": [], "arguments": ""})
                part["ids"] += [delta.id] if delta.id else []
                part["names"] += [delta.function.name] if delta.function.name else []
                part["arguments"] += delta.function.arguments or ""
            finish = chunk.choices[0].finish_reason or finish
        return {"parts": [parts[index] for index in sorted(parts)], "finish": finish}


def tools_helper() -> Any:
    tool: Any = pydantic_function_tool(Person)
    with OpenAI() as client, client.chat.completions.stream(model="tools", messages=ASK, tools=[tool]) as events:
        (call,) = events.get_final_completion().choices[0].message.tool_calls
        return {"name": call.function.name, "parsed": call.function.parsed_arguments.model_dump()}


async def tools_async() -> Any:
    async with AsyncOpenAI() as client:
        answer = await client.chat.completions.create(
            model="tools",
            messages=ASK,
            tools=[NOTHING, WEATHER],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
        )
        return _call(answer.choices[0].message)


SECTIONS = {
    "tools": tools,
    "tools_without_arguments": tools_without_arguments,
    "tools_stream": tools_stream,
    "tools_helper": tools_helper,
    "tools_async": tools_async,
}
