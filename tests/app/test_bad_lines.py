#!/usr/bin/env python3
"""A bad line becomes an error row that names line and cause, and the rest goes on; with --strict nothing begins."""

import json
import unittest

from program import ProgramTest, mixserve, read_rows, MODEL

LONGEST = 2048  # the sample model's max_position_embeddings

# The line, the id of its row (None: the line's number), and what the error says.
BAD = [
    ('{"id": "cut", "prompt": "To be"', None, "bad JSON"),
    ("To be", None, "bad JSON"),
    ('["To be"]', None, "must be a JSON object"),
    (b'{"id": "utf8", "prompt": "a\xff\xfeb"}', None, "invalid UTF-8 at byte 28"),
    ('{"id": "nothing"}', "nothing", "neither 'prompt' nor 'messages'"),
    ('{"id": "empty", "prompt": ""}', "empty", "the prompt is empty"),
    ('{"id": "no ids", "prompt": []}', "no ids", "the prompt is empty"),
    (json.dumps({"id": "long", "prompt": [5] * LONGEST}), "long", f"has {LONGEST} tokens"),
    ('{"id": "id", "prompt": [1, 4096]}', "id", "token id 4096 at place 1"),
    ('{"id": "negative", "prompt": [-1]}', "negative", "token id -1"),
    ('{"id": "key", "prompt": "x", "max_tokns": 3}', "key", "did you mean 'max_tokens'"),
    ('{"id": "hot", "prompt": "x", "temperature": -1}', "hot", "'temperature' must be from 0"),
    ('{"id": "nan", "prompt": "x", "temperature": NaN}', None, "bad JSON"),
    ('{"id": "infinite", "prompt": "x", "top_p": 1e999}', None, "1e999"),
    ('{"id": "top_p", "prompt": "x", "top_p": 1.5}', "top_p", "'top_p' must be"),
    ('{"id": "n", "prompt": "x", "n": 0}', "n", "'n' must be"),
    ('{"id": "text", "prompt": "x", "max_tokens": "3"}', "text", "'max_tokens' must be an integer"),
    ('{"id": "good", "prompt": "again"}', None, "the id 'good' is already that of line 1"),
    ('{"id": "role", "messages": [{"content": "Who goes there?"}]}', "role", "role"),
    ('{"custom_id": "url", "method": "POST", "url": "/v1/embeddings", "body": {"prompt": "x"}}', "url",
     "/v1/embeddings"),
    ('{"custom_id": "body", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x", "foo": 1}}', "body",
     "unknown key 'foo'"),
]
GOOD = [
    {"id": "good", "prompt": "To be", "max_tokens": 2},
    {"id": "one token", "prompt": [5], "max_tokens": 1},
    {"id": "longest", "prompt": [5] * (LONGEST - 1), "max_tokens": 5},
]


def lines_and_errors():
    """The file's bytes and, a row's id and error text for each bad line; a good line before and after them."""
    lines = [json.dumps(GOOD[0]).encode()]
    errors = []
    for text, row_id, error in BAD:
        lines.append(text if isinstance(text, bytes) else text.encode())
        errors.append((len(lines), row_id, error))
    lines += [b"   ", *(json.dumps(line).encode() for line in GOOD[1:])]  # a blank line, and no newline at the end
    return b"\n".join(lines), errors


def error_of(row):
    if "custom_id" not in row:
        return row["error"]
    assert row["response"]["status_code"] == 400, row
    assert row["response"]["body"]["error"]["message"] == row["error"]["message"], row
    return row["error"]["message"]


class BadLines(ProgramTest):
    def setUp(self):
        super().setUp()
        text, self.errors = lines_and_errors()
        self.write("in.jsonl", text)

    def check_error_rows(self, path, n_good):
        """Lines of one id both have a row, so rows are found by what the error says first: its line."""
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(len(rows), len(BAD) + n_good)
        found = {error_of(row).split(":")[0]: row for row in rows if row.get("error")}
        self.assertEqual(len(found), len(BAD))
        for line, row_id, error in self.errors:
            row = found[f"line {line}"]
            self.assertIn(error, error_of(row))
            if "the id 'good'" not in error:
                self.assertEqual(row.get("custom_id", row["id"]), line if row_id is None else row_id)
        return {row["id"]: row for row in rows if not row.get("error")}

    def test_run(self):
        self.check_went(self.job("run"))
        rows = self.check_error_rows(self.folder / "out/generations.jsonl", len(GOOD))
        self.assertEqual(len(rows["good"]["token_ids"]), 2)
        self.assertEqual(len(rows["one token"]["token_ids"]), 1)
        self.assertEqual(rows["longest"]["usage"], {"prompt_tokens": LONGEST - 1, "completion_tokens": 1,
                                                   "total_tokens": LONGEST})
        summary = json.loads((self.folder / "out/summary.json").read_text())
        self.assertEqual((summary["completed"], summary["failed"]), (len(GOOD), len(BAD)))

    def test_strict(self):
        self.check_refused(self.job("run", "--strict"), "--strict", "in.jsonl", "line 2", "bad JSON")
        self.write("in.jsonl", json.dumps(GOOD[0]) + "\n" + json.dumps({"prompt": [5] * LONGEST}))
        self.check_refused(self.job("run", "--strict"), "--strict", "line 2", f"{LONGEST} tokens")

    def test_tokenize(self):
        # Lengths are the engine's to judge, and an empty text has no tokens.
        ended = mixserve("tokenize", "--model", MODEL, "--input-file", self.folder / "in.jsonl", "--output",
                         self.folder / "tokens.jsonl")
        self.assertEqual(ended.code, 0, ended)
        rows = [json.loads(line) for line in (self.folder / "tokens.jsonl").read_text().splitlines()]
        self.assertEqual(len(rows), len(BAD) + len(GOOD))
        self.assertGreater(sum("error" in row for row in rows), len(BAD) - 4)


class NoLines(ProgramTest):
    def test_empty_and_blank_files(self):
        for text in ("", "\n  \n"):
            with self.subTest(text=text):
                self.write("in.jsonl", text)
                output = f"out{len(text)}"
                self.check_went(self.job("run", output=output))
                self.assertEqual(read_rows(self.folder / output / "generations.jsonl"), {})
                summary = json.loads((self.folder / output / "summary.json").read_text())
                self.assertEqual((summary["completed"], summary["failed"]), (0, 0))

    def test_only_bad_lines(self):
        self.write("in.jsonl", "x\ny\n")
        self.check_went(self.job("run"))
        self.assertEqual(len(read_rows(self.folder / "out/generations.jsonl")), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
