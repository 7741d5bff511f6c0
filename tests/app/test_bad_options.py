#!/usr/bin/env python3
"""Bad usage ends with exit code 2 before any work, and with one message that names the option."""

import unittest

from program import MODEL, N_RANKS, ProgramTest, mixserve, one_process


class BadOptions(ProgramTest):
    def setUp(self):
        super().setUp()
        self.write_lines("in.jsonl", [{"prompt": "To be", "max_tokens": 1}])

    def refused(self, options, *words, command="run"):
        with self.subTest(options=options):
            self.check_refused(self.job(command, *options.split()), *words)

    def test_unknown(self):
        self.refused("--modle x", "--modle", "the command line", "did you mean '--model'")
        self.refused("--temperature 1", "--temperature", command="score")
        self.refused("stray", "stray")
        config = self.write("run.conf", "max-num-seq = 3\n")
        self.refused(f"--config {config}", "max-num-seq", config, "did you mean '--max-num-seqs'")

    def test_bad_values(self):
        self.refused("--max-num-seqs 0", "--max-num-seqs 0", "at least 1")
        self.refused("--max-num-seqs many", "--max-num-seqs", "many")
        self.refused("--seed -1", "--seed -1", "at least 0")
        self.refused("--temperature nan", "temperature", "nan")
        self.refused("--top-p 1.5", "top_p", "1.5")
        self.refused("--strategy fuse", "--strategy fuse", "did you mean 'fused'")
        self.refused("--kv-cache-memory 10XB", "--kv-cache-memory", "10XB", "8GiB")
        self.refused("--max-model-len 4096", "--max-model-len 4096", "2048")
        self.refused("--num-layers 99", "--num-layers 99", "6 layers")
        self.refused("--backend tpu", "--backend tpu", "cpu")

    def test_contradictions(self):
        self.refused("--exchange-dtype bf16", "--exchange-dtype bf16", "--strategy fused")
        self.refused("--load-format dummy --verify", "--verify", "--load-format dummy")
        self.refused("--tensor-parallel-size 1 --ranks-per-node 2", "--tensor-parallel-size 1", "--ranks-per-node 2")
        self.refused("--max-num-seqs 3 --max-num-seqs 4", "--max-num-seqs")

    def test_missing(self):
        ended = mixserve("run", "--model", MODEL, n_ranks=N_RANKS)
        self.check_refused(ended, "--input-file")
        self.refused("--config /nowhere/run.conf", "--config", "/nowhere/run.conf")
        self.refused("--chat-template /nowhere/chat.jinja", "/nowhere/chat.jinja")

    def test_other_commands(self):
        for arguments, words in {
            "runn": ["runn", "did you mean 'run'"],
            "bench foo": ["foo", "layer, engine, load, tokenize, comm, exchange"],
            "bench comm --groups planet": ["--groups", "planet"],
            "bench comm --modle": ["--modle"],
            "bench exchange --strategies tp,foo": ["--strategies", "foo"],
            "bench exchange --ranks-per-node 3": ["nodes of 3", "--ranks-per-node"],
            "bench layer --head-dim 3": ["--head-dim 3"],
            "bench engine --context 1": ["--model"],
            "bench load --load-format dummy --model x": ["dummy"],
        }.items():
            with self.subTest(arguments=arguments):
                self.check_refused(mixserve(*arguments.split(), n_ranks=N_RANKS), *words)


@one_process
class OneProcess(ProgramTest):
    def test_bad_options(self):
        for arguments, words in {
            "convert --hf-dir nowhere": ["--output"],
            "convert --hf-dir nowhere --output m.h5": ["nowhere"],
            "convert --hf-dir nowhere --output m.h5 --dtype f8": ["--dtype", "f8"],
            "convert --hf-dir nowhere --output m.h5 --shard-size big": ["--shard-size", "big"],
            "inspect": ["M.h5"],
            "inspect a.h5 b.h5": ["one model"],
            "tokenize --input-file p.jsonl --output t.jsonl": ["--hf-dir", "--model"],
            "tokenize --hf-dir nowhere --input-file p.jsonl --output t.jsonl": ["nowhere"],
        }.items():
            with self.subTest(arguments=arguments):
                self.check_refused(mixserve(*arguments.split()), *words)

    def test_several_ranks(self):
        self.check_refused(mixserve("inspect", MODEL, n_ranks=2), "inspect", "one process")


if __name__ == "__main__":
    unittest.main(verbosity=2)
