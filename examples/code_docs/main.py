# Writes docstrings for the functions of a file that have none; every call is a trace of one session in MLflow.
#   lockgate serve --config examples/code_docs/lockgate.yaml
#   python examples/code_docs/main.py [FILE]      (pip install openai)
#   lockgate mlflow --config examples/code_docs/lockgate.yaml      (to look at the traces: experiment code-docs)
import ast
import os
import sys
import uuid
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "any"),
    # one session, so that MLflow shows the calls together
    default_headers={"x-session-id": f"code-docs-{uuid.uuid4()}"},
)
path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("shapes.py")
source = path.read_text()

for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is None:
        answer = client.chat.completions.with_raw_response.create(
            model="writer",
            user="code-docs",
            temperature=0,
            messages=[
                {"role": "system", "content": "Write a docstring of one sentence for the function. Only the text."},
                {"role": "user", "content": ast.unparse(node)},
            ],
        )
        print(f"{node.name} (trace tr-{answer.headers['x-request-id']})")
        print(f"    {(answer.parse().choices[0].message.content or '').splitlines()[0]}")
