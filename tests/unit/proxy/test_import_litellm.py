"""What a LiteLLM proxy was told is taken over; what cannot be is said."""

from typing import Any

import pytest
import yaml

from proxy.build import plan
from proxy.config_file import parse_config
from proxy.import_litellm import convert

SOURCE = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-eu, api_base: "https://eu.example/", api_version: "2024-10-21",
                     api_key: os.environ/AZURE_EU_KEY, weight: 3, rpm: 60}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, timeout: 30, stream_timeout: 5}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_key: sk-ant-in-plain-text}
  - model_name: local
    litellm_params: {model: ollama/llama3, api_base: "http://10.0.0.5:11434"}
  - model_name: groq/*
    litellm_params: {model: groq/*, api_key: os.environ/GROQ_API_KEY}
  - model_name: plain
    litellm_params: {model: gpt-4o-mini}
    model_info: {id: x, input_cost_per_token: 0.000001}
    tpm: 1000
  - model_name: bedrock
    litellm_params: {model: bedrock/anthropic.claude-v2, aws_region_name: eu-west-1, timeout: 20}
  - model_name: bedrock
    litellm_params: {model: vertex_ai/claude, vertex_project: mine, timeout: 40}
  - model_name: bedrock
    litellm_params: {model: text-completion-openai/gpt-3.5-turbo-instruct, timeout: 30}
litellm_settings:
  num_retries: 2
  drop_params: true
  fallbacks: [{gpt-4o: [claude, nowhere]}]
  context_window_fallbacks: [{gpt-4o: [claude]}]
  success_callback: [langfuse]
  cache: true
router_settings:
  routing_strategy: latency-based-routing
  cooldown_time: 45
  allowed_fails: 3
  model_group_alias: {gpt-4: gpt-4o}
  timeout: 120
  redis_host: os.environ/REDIS_HOST
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, database_url: x}
environment_variables: {A: b}
"""


@pytest.fixture
def converted() -> tuple[dict[str, Any], list[str]]:
    return convert(yaml.safe_load(SOURCE))


def test_the_result_is_a_valid_configuration(converted: tuple[dict[str, Any], list[str]]) -> None:
    config = parse_config(yaml.safe_dump(converted[0], sort_keys=False), {"OPENAI_API_KEY": "k"})
    assert set(config.routes) == {"gpt-4o", "claude", "local", "groq/*", "plain", "bedrock", "gpt-4"}


def test_models_become_routes_over_providers(converted: tuple[dict[str, Any], list[str]]) -> None:
    config, _ = converted
    assert config["routes"]["gpt-4o"]["deployments"] == [
        {"provider": "azure", "model": "gpt-4o-eu", "weight": 3.0},
        {"provider": "openai", "model": "gpt-4o"},
    ]
    assert config["routes"]["groq/*"]["deployments"] == [{"provider": "groq", "model": "*"}]
    assert config["routes"]["gpt-4o"]["timeouts"] == {"total": "30s", "first_content": "5s"}
    assert config["routes"]["gpt-4"]["deployments"] == config["routes"]["gpt-4o"]["deployments"]
    assert config["providers"]["azure"] == {
        "kind": "openai",
        "base_url": "https://eu.example/",
        "api_version": "2024-10-21",
        "api_key": "${AZURE_EU_KEY:-}",
    }
    assert config["providers"]["ollama"] == {
        "kind": "openai",
        "base_url": "http://10.0.0.5:11434/v1",
        "responses": False,
    }
    assert config["providers"]["anthropic"]["kind"] == "litellm"
    assert config["providers"]["anthropic"]["unsupported"] == "drop"


def test_failing_over_is_taken_over(converted: tuple[dict[str, Any], list[str]]) -> None:
    config, _ = converted
    assert config["routes"]["gpt-4o"]["fallbacks"] == ["claude"]
    assert config["routes"]["gpt-4o"]["context_window_fallbacks"] == ["claude"]
    assert config["routes"]["gpt-4o"]["strategy"] == "least-latency"
    assert config["failover"]["tries"] == 3
    assert config["failover"]["cooldown"] == {"failing": "45s", "limited": "45s", "minimum": 4}
    assert config["timeouts"] == {"total": "120s"}


def test_no_secret_leaves_the_source(converted: tuple[dict[str, Any], list[str]]) -> None:
    config, notes = converted
    assert "sk-ant" not in yaml.safe_dump(config) + "\n".join(notes)
    assert config["providers"]["anthropic"]["api_key"] == "${ANTHROPIC_API_KEY:-}"
    assert config["secrets"] == {"admin_key": "${LITELLM_MASTER_KEY:-}"}


def test_who_had_to_present_a_key_still_has_to(converted: tuple[dict[str, Any], list[str]]) -> None:
    """A master key closes LiteLLM's proxy to everybody without one."""
    assert converted[0]["authenticate"] == {"keys": True}
    assert "authenticate" not in convert({"model_list": yaml.safe_load(SOURCE)["model_list"]})[0]


def test_an_alias_falls_back_as_its_model_does(converted: tuple[dict[str, Any], list[str]]) -> None:
    """And has a list of its own, that a change in one place does not change the other."""
    routes = converted[0]["routes"]
    assert routes["gpt-4"] == routes["gpt-4o"]
    assert routes["gpt-4"]["deployments"] is not routes["gpt-4o"]["deployments"]


def test_credentials_that_stand_elsewhere_are_not_missed_here(converted: tuple[dict[str, Any], list[str]]) -> None:
    """A provider with an empty key would not be there: AWS and Google have theirs in the environment."""
    providers = converted[0]["providers"]
    assert "api_key" not in providers["bedrock"]
    assert "api_key" not in providers["vertex_ai"]
    assert providers["text-completion-openai"]["api_key"] == "${OPENAI_API_KEY:-}"
    planned = plan(parse_config(yaml.safe_dump(converted[0]), {}), lambda _: True)
    assert {"bedrock", "vertex_ai"} <= set(planned.providers)


def test_of_several_patiences_the_longest_holds(converted: tuple[dict[str, Any], list[str]]) -> None:
    """A route has one; a deployment that was given more time keeps it."""
    assert converted[0]["routes"]["bedrock"]["timeouts"] == {"total": "40s"}
    assert sum("the longer one holds" in note for note in converted[1]) == 2


@pytest.mark.parametrize(
    "said",
    [
        "model_list[0].litellm_params.rpm",
        "model_list[2].litellm_params.api_key",
        "fallbacks: there is no model 'nowhere'",
        "model_list[5].model_info.input_cost_per_token: not taken over: see prices",
        "model_list[5].tpm: not taken over: see caller_limits",
        "model_list[6].litellm_params.aws_region_name: not taken over: set AWS_REGION_NAME",
        "model_list[7].litellm_params.vertex_project: not taken over: set VERTEXAI_PROJECT",
        "general_settings.master_key: nobody calls without a key",
        "litellm_settings.success_callback",
        "litellm_settings.cache",
        "router_settings.redis_host",
        "general_settings.database_url",
        "environment_variables",
    ],
)
def test_what_is_left_out_is_said(said: str, converted: tuple[dict[str, Any], list[str]]) -> None:
    assert any(note.startswith(said) for note in converted[1])


@pytest.mark.parametrize("source", [{}, {"model_list": []}, {"model_list": "x"}])
def test_what_is_no_such_file_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="model_list"):
        convert(source)


def test_a_broken_entry_is_left_out_and_said() -> None:
    config, notes = convert(
        {"model_list": [{"model_name": "x"}, 7, {"model_name": "y", "litellm_params": {"model": "m"}}]}
    )
    assert list(config["routes"]) == ["y"]
    assert [note[:13] for note in notes] == ["model_list[0]", "model_list[1]"]


def test_what_has_another_shape_than_documented_is_said_and_stops_nothing() -> None:
    """Variables where a value must be known, texts for numbers, lists for mappings."""
    entry = {"model_name": "x", "litellm_params": {"model": "openai/m"}}
    unknown = {"model_name": "y", "litellm_params": {"model": "os.environ/MODEL"}}
    router = {"num_retries": "3", "cooldown_time": "os.environ/REST", "allowed_fails": 1, "model_group_alias": ["a"]}
    config, notes = convert({"model_list": [entry, unknown], "router_settings": router, "general_settings": None})
    assert list(config["routes"]) == ["x"]
    assert config["failover"] == {"cooldown": {"minimum": 2}}
    for said in (
        "model_list[1].litellm_params.model: ",
        "num_retries: '3'",
        "cooldown_time: ",
        "router_settings.model_group_alias: ",
    ):
        assert any(note.startswith(said) for note in notes), said
