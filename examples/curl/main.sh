#!/bin/sh
set -eu
base_url="${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}"
api_key="${OPENAI_API_KEY:-any}"

curl --silent --show-error --fail-with-body "$base_url/chat/completions" \
  --header "Authorization: Bearer $api_key" --header "Content-Type: application/json" \
  --data '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}'
echo

curl --silent --show-error --fail-with-body --no-buffer "$base_url/chat/completions" \
  --header "Authorization: Bearer $api_key" --header "Content-Type: application/json" \
  --data '{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "Count to three."}]}'

curl --silent --show-error --fail-with-body "$base_url/embeddings" \
  --header "Authorization: Bearer $api_key" --header "Content-Type: application/json" \
  --data '{"model": "text-embedding-3-small", "input": ["one", "two"]}'
