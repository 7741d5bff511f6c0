#!/usr/bin/env python3
"""The commands do what the README says, on the sample model; its numbers are those of transformers."""

import json
import math
import unittest
from pathlib import Path

from program import CHECKPOINT, MODEL, N_RANKS, ProgramTest, mixserve, one_process, read_rows

# From the sample model's golden.h5 (transformers, float32): short prompts, with as many greedy tokens as stand
# clear of the next best.
GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "data/sample_golden.jsonl").read_text().splitlines()]
TOLERANCE = 1e-3  # of a log-probability


class Run(ProgramTest):
    def rows(self, *options, lines):
        self.write_lines("in.jsonl", lines)
        self.check_went(self.job("run", *options))
        return read_rows(self.folder / "out/generations.jsonl")

    def test_greedy_tokens_are_those_of_transformers(self):
        lines = []
        for golden in GOLDEN:
            greedy = {"max_tokens": len(golden["greedy"]), "temperature": 0, "ignore_eos": True}
            lines.append({"id": "text " + golden["id"], "prompt": golden["prompt"], **greedy})
            lines.append({"id": "ids " + golden["id"], "prompt": golden["prompt_ids"], **greedy})
        rows = self.rows(lines=lines)
        for golden in GOLDEN:
            for kind in ("text ", "ids "):
                row = rows[kind + golden["id"]]
                self.assertEqual(row["token_ids"], golden["greedy"], row)
                self.assertEqual(row["finish_reason"], "length")
                self.assertEqual(row["usage"]["prompt_tokens"], len(golden["prompt_ids"]))
        run = json.loads((self.folder / "out/run.json").read_text())
        self.assertEqual(run["options"]["strategy"], "tp-ep")
        self.assertEqual(len(run["topology"]["hosts"]), run["topology"]["world_size"])
        steps = [json.loads(line) for line in (self.folder / "out/steps.jsonl").read_text().splitlines()]
        n_prompt_tokens = sum(len(golden["prompt_ids"]) for golden in GOLDEN)
        self.assertEqual(sum(step["prefill_tokens"] for step in steps), 2 * n_prompt_tokens)

    def test_forms_of_lines(self):
        chat = {"messages": [{"role": "user", "content": "Who goes there?"}], "max_tokens": 3}
        rows = self.rows(lines=[
            {"id": "chat", **chat},
            {"custom_id": "batch chat", "method": "POST", "url": "/v1/chat/completions", "body": chat},
            {"custom_id": "batch", "method": "POST", "url": "/v1/completions",
             "body": {"prompt": "To be", "max_tokens": 3, "logprobs": 2}},
            {"prompt": "To be", "max_tokens": 1},
        ])
        self.assertEqual(set(rows), {"chat", "batch chat", "batch", 4})
        message = rows["batch chat"]["response"]["body"]["choices"][0]["message"]
        self.assertEqual(message["role"], "assistant")
        self.assertEqual(rows["batch"]["response"]["status_code"], 200)
        logprobs = rows["batch"]["response"]["body"]["choices"][0]["logprobs"]
        self.assertEqual(len(logprobs["token_logprobs"]), 3)
        self.assertEqual("".join(logprobs["tokens"]), rows["batch"]["response"]["body"]["choices"][0]["text"])

    def test_samples_and_logprobs(self):
        line = {"id": "n", "prompt": "To be", "n": 3, "max_tokens": 4, "seed": 7, "logprobs": 2, "prompt_logprobs": 1}
        greedy = {"prompt": GOLDEN[0]["prompt_ids"], "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
        rows = self.rows(lines=[line, {"id": "prompt", **greedy}])
        choices = rows["n"]["choices"]
        self.assertEqual([choice["index"] for choice in choices], [0, 1, 2])
        self.assertGreater(len({tuple(choice["token_ids"]) for choice in choices}), 1)
        for choice in choices:
            self.assertEqual([entry["token_id"] for entry in choice["logprobs"]], choice["token_ids"])
            for entry in choice["logprobs"]:
                self.assertLessEqual(len(entry["top"]), 2)
                self.assertTrue(math.isfinite(entry["logprob"]) and entry["logprob"] <= 0)
        found = [entry["logprob"] for entry in rows["prompt"]["prompt_logprobs"] if entry]
        self.assertEqual(len(found), len(GOLDEN[0]["logprobs"]))
        for value, golden in zip(found, GOLDEN[0]["logprobs"]):
            self.assertLessEqual(abs(value - golden), TOLERANCE)

    def test_stops(self):
        golden = GOLDEN[1]
        line = {"prompt": golden["prompt"], "temperature": 0, "ignore_eos": True, "max_tokens": len(golden["greedy"])}
        whole = self.rows(lines=[{"id": 1, **line}])[1]["text"]
        stop = whole[3:6]
        self.write_lines("in.jsonl", [{"id": 1, "stop": stop, **line},
                                      {"id": 2, "stop": stop, "include_stop_str_in_output": True, **line},
                                      {"id": 3, "stop_token_ids": [golden["greedy"][2]], **line}])
        self.check_went(self.job("run", output="stops"))
        rows = read_rows(self.folder / "stops/generations.jsonl")
        cut = whole.index(stop)
        self.assertEqual(rows[1]["text"], whole[:cut])
        self.assertEqual(rows[2]["text"], whole[:cut] + stop)
        self.assertEqual(len(rows[3]["token_ids"]), 3)
        self.assertEqual({row["finish_reason"] for row in rows.values()}, {"stop"})

    def test_trace_config_and_verify(self):
        config = self.write("run.conf", "# defaults of this study\nmax-tokens = 2\ntrace = true\nverify = true\n")
        self.write("in.jsonl", '{"prompt": "To be"}\n')
        self.check_went(self.job("run", "--config", config, "--max-tokens", "3"))
        row = read_rows(self.folder / "out/generations.jsonl")[1]
        self.assertEqual(len(row["token_ids"]), 3)  # the command line wins
        trace = json.loads((self.folder / "out/trace.json").read_text())
        events = trace["traceEvents"] if isinstance(trace, dict) else trace
        run = json.loads((self.folder / "out/run.json").read_text())
        topology = run["topology"]
        self.assertEqual({event["tid"] for event in events}, {*range(topology["world_size"])})
        self.assertEqual({event["pid"] for event in events}, {*range(topology["nodes"])})
        self.assertTrue(any(event.get("name") == "experts" for event in events))

    def test_text_file(self):
        (self.folder / "in.txt").write_text("To be\n\nOr not\n")
        ended = mixserve("run", "--model", MODEL, "--input-file", self.folder / "in.txt", "--output-dir",
                         self.folder / "out", "--max-tokens", "1")
        self.check_went(ended)
        self.assertEqual(set(read_rows(self.folder / "out/generations.jsonl")), {1, 3})

    def test_dummy_weights(self):
        lines = [{"id": "ids", "prompt": [1, 2, 3], "max_tokens": 2}]
        self.write_lines("in.jsonl", lines)
        config = {
            "model_type": "olmoe", "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 4, "num_experts": 8, "num_experts_per_tok": 2,
            "vocab_size": 100, "max_position_embeddings": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "eos_token_id": 99,
        }
        self.write("config.json", json.dumps(config))
        dummy = ["--load-format", "dummy", "--num-layers", "2"]
        self.check_went(self.job("run", *dummy, model=self.folder))
        row = read_rows(self.folder / "out/generations.jsonl")["ids"]
        self.assertEqual(row["text"].count("<"), len(row["token_ids"]))  # token i is the text <i>


class Score(ProgramTest):
    def test_perplexity_is_that_of_transformers(self):
        self.write_lines("in.jsonl", [{"id": golden["id"], "prompt": golden["prompt_ids"]} for golden in GOLDEN]
                         + [{"id": "one", "prompt": [5]}])
        self.check_went(self.job("score"))
        rows = read_rows(self.folder / "out/scores.jsonl")
        for golden in GOLDEN:
            row = rows[golden["id"]]
            self.assertEqual(row["token_ids"], golden["prompt_ids"])
            self.assertIsNone(row["logprobs"][0])
            for value, expected in zip(row["logprobs"][1:], golden["logprobs"], strict=True):
                self.assertLessEqual(abs(value - expected), TOLERANCE)
            mean = sum(golden["logprobs"]) / len(golden["logprobs"])
            self.assertLessEqual(abs(math.log(row["perplexity"]) + mean), TOLERANCE)
        self.assertEqual((rows["one"]["logprobs"], rows["one"]["perplexity"]), ([None], None))
        logprobs = [value for golden in GOLDEN for value in golden["logprobs"]]
        summary = json.loads((self.folder / "out/summary.json").read_text())
        self.assertLessEqual(abs(math.log(summary["perplexity"]) + sum(logprobs) / len(logprobs)), TOLERANCE)


@one_process
class OneProcess(ProgramTest):
    def tokenize(self, *options):
        output = self.folder / f"tokens{len(list(self.folder.iterdir()))}.jsonl"
        ended = mixserve("tokenize", "--input-file", self.folder / "in.jsonl", "--output", output, *options)
        self.check_went(ended)
        self.assertEqual(list(self.folder.glob("*.part")), [])
        return read_rows(output), output

    def test_tokenize_both_ways(self):
        self.write_lines("in.jsonl", [{"id": g["id"], "prompt": g["prompt"]} for g in GOLDEN]
                         + [{"id": "chat", "messages": [{"role": "user", "content": "Speak."}]}])
        for source in (["--model", MODEL], ["--hf-dir", CHECKPOINT]):
            rows, output = self.tokenize(*source)
            for golden in GOLDEN:
                self.assertEqual(rows[golden["id"]],
                                 {"id": golden["id"], "text": golden["prompt"], "token_ids": golden["prompt_ids"]})
            self.assertIn("<|im_start|>user\nSpeak.", rows["chat"]["text"])
            (self.folder / "in.jsonl").write_bytes(output.read_bytes())
            back, _ = self.tokenize(*source, "--decode")
            self.assertEqual({key: row["text"] for key, row in back.items()},
                             {key: row["text"] for key, row in rows.items()})
            self.write_lines("in.jsonl", [{"id": g["id"], "prompt": g["prompt"]} for g in GOLDEN]
                             + [{"id": "chat", "messages": [{"role": "user", "content": "Speak."}]}])

    def test_tokenize_refuses_a_file_that_is_there(self):
        self.write_lines("in.jsonl", [{"prompt": "To be"}])
        there = self.write("there.jsonl", "mine")
        ended = mixserve("tokenize", "--model", MODEL, "--input-file", self.folder / "in.jsonl", "--output", there)
        self.check_refused(ended, there, "new name")
        self.assertEqual(there.read_text(), "mine")
        ended = mixserve("tokenize", "--model", MODEL, "--input-file", self.folder / "in.jsonl", "--output",
                         self.folder / "there.jsonl/x")
        self.check_refused(ended, "there.jsonl/x")

    def test_inspect(self):
        ended = mixserve("inspect", MODEL)
        self.check_went(ended)
        for words in ("qwen3_moe", "22.", "32, 4 for a token", "tokenizer_config"):
            self.assertIn(words, ended.out)
        described = json.loads(mixserve("inspect", MODEL, "--json").out)
        self.assertEqual(described["experts"], {"total": 32, "per_token": 4})
        ended = mixserve("inspect", MODEL, "--verify")
        self.check_went(ended)
        self.assertIn("every checksum is right", ended.err)

    def test_convert_in_shards(self):
        model = self.folder / "m.h5"
        self.check_went(mixserve("convert", "--hf-dir", CHECKPOINT, "--output", model, "--shard-size", "16MiB"))
        self.assertGreater(len(list(self.folder.glob("m*.h5"))), 2)
        self.write_lines("in.jsonl", [{"id": 1, "prompt": GOLDEN[0]["prompt"], "temperature": 0, "max_tokens": 2}])
        self.check_went(self.job("run", "--verify", model=model, output="went"))
        self.assertEqual(read_rows(self.folder / "went/generations.jsonl")[1]["token_ids"], GOLDEN[0]["greedy"][:2])
        self.check_refused(mixserve("convert", "--hf-dir", CHECKPOINT, "--output", model), "--force")
        self.check_went(mixserve("convert", "--hf-dir", CHECKPOINT, "--output", model, "--force", "--dtype", "f32"))
        self.check_went(mixserve("inspect", model, "--verify"))

    def test_help_and_version(self):
        for command in ("run", "score", "convert", "inspect", "tokenize", "bench comm", "bench exchange",
                        "bench layer", "bench engine", "bench load", "bench tokenize"):
            ended = mixserve(*command.split(), "--help")
            self.check_went(ended)
            self.assertTrue(ended.out.startswith(f"usage: mixserve {command}"), ended)
        self.assertTrue(mixserve("--version").out.startswith("mixserve "))
        ended = mixserve()
        self.assertEqual(ended.code, 2)
        self.assertIn("usage: mixserve COMMAND", ended.err)


class Benches(ProgramTest):
    """Each runs on small shapes and writes figures; what they are is the machine's affair."""

    def figures(self, part, *options):
        file = self.folder / "figures.json"
        nodes = ["--ranks-per-node", "2"] if N_RANKS == 4 and part != "layer" else []
        self.check_went(mixserve("bench", part, *options, *nodes, "--repetitions", "2", "--json", file, n_ranks=N_RANKS))
        return json.loads(file.read_text())

    def test_layer(self):
        shape = ["--hidden-size", "64", "--num-experts", "4", "--num-experts-per-tok", "2", "--intermediate-size", "32",
                 "--num-attention-heads", "2", "--num-key-value-heads", "2", "--head-dim", "32"]
        results = self.figures("layer", *shape, "--batch-sizes", "1,3", "--prefill-sizes", "5")["results"]
        self.assertEqual([(r["mode"], r["rows"]) for r in results], [("decode", 1), ("decode", 3), ("prefill", 5)])
        for result in results:
            self.assertEqual(result["kernels"][-1]["name"], "layer")
            self.assertGreater(result["kernels"][-1]["bandwidth_share"], 0, result)

    def test_engine(self):
        figures = self.figures("engine", "--model", MODEL, "--batch-sizes", "1,3", "--prefill-sizes", "5")
        self.assertEqual([f["step"] for f in figures["results"]],
                         ["decode 1 x context 128", "decode 3 x context 128", "prefill 5"])
        for f in figures["results"]:
            self.assertGreater(min(f["ms"], f["bytes"], f["flops"], f["achieved"], f["limit"], f["share"]), 0, f)

    def test_load(self):
        figures = self.figures("load", "--model", MODEL)
        n_weights = 44_000_000  # about, in bf16; ranks of several nodes have some of them twice
        self.assertTrue(n_weights < figures["bytes"] < 2 * n_weights, figures)
        self.assertEqual(len(figures["load_s"]), 2)
        self.assertEqual(len(figures["read_s"]), 2)

    @one_process
    def test_tokenize(self):
        self.write_lines("in.jsonl", [{"prompt": golden["prompt"]} for golden in GOLDEN])
        figures = self.figures("tokenize", "--model", MODEL, "--input-file", self.folder / "in.jsonl")
        self.assertEqual(figures["tokens"], sum(len(golden["prompt_ids"]) for golden in GOLDEN))
        self.assertEqual(figures["prompts"], len(GOLDEN))

    def test_comm_and_exchange(self):
        for result in self.figures("comm", "--max-bytes", "4096")["results"]:
            self.assertEqual(result["wrong"], 0, result)
        shape = ["--num-tokens", "6", "--hidden-size", "48", "--num-experts", "8", "--intermediate-size", "32",
                 "--num-experts-per-tok", "3"]
        for result in self.figures("exchange", *shape)["results"]:
            self.assertLess(result["difference"], 1e-5, result)


if __name__ == "__main__":
    unittest.main(verbosity=2)
