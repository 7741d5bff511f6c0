#!/bin/bash
# Every form of row is shown under its prompt, in the order of the input.
set -euo pipefail
script=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/prompts.jsonl" <<'JSON'
{"id": "one", "prompt": "To be,"}
{"messages": [{"role": "user", "content": "Who goes there?"}]}
{"id": "ids", "prompt": [1, 2]}
{"custom_id": "batch", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Speak."}]}}
{"id": "broken", "prompt": "x"}
{"id": "late", "prompt": "y"}
JSON
cat >"$folder/generations.jsonl" <<'JSON'
{"id": "broken", "error": "temperature -1: must be at least 0"}
{"id": "r-1", "custom_id": "batch", "response": {"status_code": 200, "request_id": "r", "body": {"choices": [{"message": {"content": "I am."}}]}}, "error": null}
{"id": "ids", "choices": [{"text": "a\nb"}, {"text": "c"}]}
{"id": "2", "text": "A friend."}
{"id": "one", "text": " or not"}
JSON
cat >"$folder/expected" <<'TEXT'
[one] To be,
  |  or not

[2] user: Who goes there?
  | A friend.

[ids] (tokens 1 2)
  | a
  | b
  +
  | c

[batch] user: Speak.
  | I am.

[broken] x
  | (error: temperature -1: must be at least 0)

[late] y
  | (no row yet)

TEXT
"$script" "$folder/prompts.jsonl" "$folder/generations.jsonl" | diff "$folder/expected" -
echo PASSED
