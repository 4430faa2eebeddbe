"""The kinds of guards, their settings and how each is built: one table."""

from collections.abc import Callable
from typing import Any, Final

from policies.guards import exfiltration, keywords, personal_data, secrets
from policies.guards.injection import Injection, InjectionConfig
from policies.guards.length import Length, LengthConfig
from policies.guards.prompt_leak import PromptLeak, PromptLeakConfig
from policies.guards.verdict import Guard

# What `input_guards` and `output_guards` list: msgspec picks the type by `kind` and refuses unknown fields.
GuardConfig = (
    InjectionConfig
    | secrets.SecretsConfig
    | personal_data.PersonalDataConfig
    | exfiltration.ExfiltrationConfig
    | keywords.KeywordsConfig
    | LengthConfig
    | PromptLeakConfig
)

BUILDERS: Final[dict[type[Any], Callable[[Any], Guard | PromptLeak]]] = {
    InjectionConfig: Injection.load,
    secrets.SecretsConfig: secrets.build,
    personal_data.PersonalDataConfig: personal_data.build,
    exfiltration.ExfiltrationConfig: exfiltration.build,
    keywords.KeywordsConfig: keywords.build,
    LengthConfig: Length,
    PromptLeakConfig: PromptLeak,
}


def build(config: GuardConfig) -> Guard | PromptLeak:
    """The guard of a setting; ValueError (RuleError among them) when it cannot be built. A PromptLeak waits for its prompt."""
    return BUILDERS[type(config)](config)
