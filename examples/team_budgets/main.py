# Two teams with budgets: one runs out and is refused, the other works on.
#   LITELLM_MASTER_KEY=sk-admin-of-your-own lockgate serve --config examples/team_budgets/lockgate.yaml
#   LITELLM_MASTER_KEY=sk-admin-of-your-own python examples/team_budgets/main.py      (pip install openai)
import json
import os
import urllib.request
from typing import Any

from openai import OpenAI, RateLimitError

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
GATEWAY = BASE_URL.removesuffix("/v1")
ADMIN_KEY = os.environ["LITELLM_MASTER_KEY"]
MOST = 30
BUDGETS = {"search": 0.0002, "support": 5.0}


def admin(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"{GATEWAY}{path}", data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def calls_until_refused(key: str, most: int) -> int:
    client = OpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
    question = [{"role": "user", "content": "Write a haiku about the sea."}]
    for number in range(most):
        try:
            client.chat.completions.create(model="assistant", messages=question, max_tokens=50)  # type: ignore[arg-type]
        except RateLimitError as error:
            print(f"  {error.code}")
            return number
    return most


for team, budget in BUDGETS.items():
    admin("PUT", f"/admin/owners/{team}", {"budget": budget, "period": "month"})

keys = {team: admin("POST", "/admin/keys", {"name": team, "owner": team, "models": ["assistant"]}) for team in BUDGETS}
for team, made in keys.items():
    count = calls_until_refused(made["key"], MOST)
    print(f"{team}: {count} calls,", "then refused" if count < MOST else "and more to come")

for account in admin("GET", "/admin/budgets")["budgets"]:
    print(account)
