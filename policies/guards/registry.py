"""From settings to guards: one table."""

from collections.abc import Callable
from typing import Any, Final

from policies.guards import exfiltration, keywords, personal_data, secrets
from policies.guards.injection import Injection
from policies.guards.length import Length
from policies.guards.prompt_leak import PromptLeak
from policies.guards.settings import (
    ExfiltrationConfig,
    GuardConfig,
    InjectionConfig,
    KeywordsConfig,
    LengthConfig,
    PersonalDataConfig,
    PromptLeakConfig,
    SecretsConfig,
)
from policies.guards.verdict import Guard

Scanner = Guard | PromptLeak
BUILDERS: Final[dict[type[Any], Callable[[Any], Scanner]]] = {
    InjectionConfig: Injection.load,
    SecretsConfig: lambda _config: secrets.build(),
    PersonalDataConfig: personal_data.build,
    ExfiltrationConfig: exfiltration.build,
    KeywordsConfig: keywords.build,
    LengthConfig: Length,
    PromptLeakConfig: PromptLeak,
}


def build(config: GuardConfig) -> Scanner:
    """The guard of a setting; ValueError (RuleError among them) when it cannot be built. A PromptLeak waits for its prompt.

    What it does about a finding is not its business: its verdict is the gravest that the finding can have.
    """
    return BUILDERS[type(config)](config)
