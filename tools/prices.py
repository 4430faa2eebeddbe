"""Make `proxy/prices.json` anew from the price file that the installed litellm brings along: `make prices`.

No network: the date in the result is that of litellm's release here, and prices are as good as that file. Only what
is paid by the token is taken; images, characters, seconds, searches and sessions are left out.
"""

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_TARGET = Path(__file__).parents[1] / "proxy" / "prices.json"
_MODES = frozenset({"chat", "responses", "embedding", "completion", "moderation"})
_VENDORS = {"bedrock_converse": "bedrock", "cohere_chat": "cohere", "azure_text": "azure"}
_MEMBERS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
}
_TIERS = {"flex": "_flex", "priority": "_priority", "batch": "_batches"}
_ABOVE = re.compile(r"input_cost_per_token_above_(\d+)k_tokens$")
_PICO = Decimal(10) ** 12


def vendor_of(name: str) -> str:
    """One name for vendors that litellm has in parts."""
    for prefix, vendor in (("vertex_ai", "vertex_ai"), ("fireworks_ai", "fireworks_ai"), ("text-completion-", "")):
        if name.startswith(prefix):
            return vendor or name.removeprefix(prefix)
    return _VENDORS.get(name, name)


def rates_of(entry: Mapping[str, Any], suffix: str) -> Json:
    """Rates in pico-USD a token, those that are given; a tenth of a nano-dollar and less does occur."""
    found = {}
    for member, name in _MEMBERS.items():
        value = entry.get(name + suffix)
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            found[member] = int((Decimal(value) * _PICO).to_integral_value(ROUND_HALF_UP))
    return found


def levels_of(entry: Mapping[str, Any], suffix: str) -> Json:
    """Rates, and those above so many tokens of input."""
    level = rates_of(entry, suffix)
    above = {}
    for name in entry:
        match = _ABOVE.match(name)
        if match:
            rates = rates_of(entry, f"_above_{match[1]}k_tokens{suffix}")
            if rates:
                above[str(int(match[1]) * 1000)] = rates
    return {**level, "above": above} if above else level


def price_of(entry: Mapping[str, Any]) -> Json | None:
    """One model; None where nothing is paid by the token, or nothing is known."""
    price = levels_of(entry, "")
    if "input" not in price:
        return None
    tiers = {tier: levels for tier, suffix in _TIERS.items() if (levels := levels_of(entry, suffix))}
    if tiers:
        price["tiers"] = tiers
    for member, name in (("most_input", "max_input_tokens"), ("most_output", "max_output_tokens")):
        if isinstance(entry.get(name), int):
            price[member] = entry[name]
    return price


def _lines(models: Mapping[str, Json]) -> str:
    """A line for each model, so that a new table differs where prices do."""
    return ",\n".join(
        f"{json.dumps(name)}: {json.dumps(price, separators=(',', ':'))}" for name, price in sorted(models.items())
    )


def main() -> None:
    """Write the file."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        raise SystemExit("litellm is not installed")
    source = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    prices: dict[str, Json] = {}
    for name, entry in json.loads(source.read_text(encoding="utf-8"), parse_float=Decimal).items():
        if entry.get("mode") not in _MODES:
            continue
        price = price_of(entry)
        if price is not None:
            vendor = vendor_of(entry["litellm_provider"])
            prices.setdefault(vendor, {})[name.removeprefix(f"{vendor}/")] = price
    about = {
        "source": f"litellm {importlib.metadata.version('litellm')}, {source.name}",
        "made": datetime.now(UTC).date().isoformat(),
        "command": "make prices",
        "unit": "pico-USD a token",
    }
    vendors = ",\n".join(f"{json.dumps(vendor)}: {{\n{_lines(prices[vendor])}\n}}" for vendor in sorted(prices))
    _TARGET.write_text(f'{{\n"about": {json.dumps(about)},\n"prices": {{\n{vendors}\n}}}}\n', encoding="utf-8")
    print(f"{_TARGET}: {sum(map(len, prices.values()))} models of {len(prices)} vendors")


if __name__ == "__main__":
    main()
