#!/usr/bin/env python3
"""A model that is damaged, or does not go with the ranks, is refused with one message; so are bad folders."""

import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

from program import CHECKPOINT, DAMAGE_MODEL, MODEL, N_RANKS, ProgramTest, mixserve, one_process


class BadModels(ProgramTest):
    def setUp(self):
        super().setUp()
        self.write_lines("in.jsonl", [{"prompt": "To be", "max_tokens": 1}])
        self.model = Path(MODEL).read_bytes()

    def refused(self, path, *words):
        with self.subTest(path=str(path)):
            self.check_refused(self.job("run", model=path), path, *words)
            self.check_refused(mixserve("inspect", path), path, *words)

    def test_not_a_model(self):
        self.refused(self.folder / "missing.h5", "no such file", "mixserve convert")
        self.refused(self.write("empty.h5", ""), "is empty", "convert")
        self.refused(self.write("text.h5", "hello\n"), "not an HDF5 file", "mixserve convert")
        self.refused(self.write("cut.h5", self.model[: len(self.model) // 2]), "truncated", "copy it again")

    def flipped(self, needle=None):
        damaged = bytearray(self.model)
        damaged[damaged.index(needle) if needle else len(damaged) // 2] ^= 0x10
        return self.write("flipped.h5", bytes(damaged))

    def test_flipped_byte_in_weights(self):
        path = self.flipped()
        words = [path, "tensor 'model.layers.", "is damaged", "checksum", "again"]
        self.check_refused(self.job("run", "--verify", model=path), *words)
        ended = mixserve("inspect", path, "--verify")
        self.assertEqual((ended.code, len(ended.messages)), (2, 1), ended)
        for word in words:
            self.assertIn(str(word), ended.messages[0], ended)
        self.check_went(mixserve("inspect", MODEL, "--verify"))

    def test_flipped_byte_in_texts(self):
        self.refused(self.flipped(b'"num_hidden_layers"'), "/config is damaged", "again")

    def test_damaged_tensors(self):
        tensor = "model.layers.3.self_attn.q_proj.weight"
        for how, words in {
            "missing": ["is missing", "convert"],
            "shape": ["has the stored shape [128, 512]", "config.json asks for [256, 256]", "convert"],
            "type": ["element type", "convert again"],
            "attribute": ["lacks an attribute", "convert again"],
        }.items():
            path = self.write(f"{how}.h5", self.model)
            subprocess.run([DAMAGE_MODEL, path, how, tensor], check=True)
            with self.subTest(how=how):
                self.check_refused(self.job("run", model=path), path, f"'{tensor}'", *words)
        path = self.folder / "missing.h5"
        self.check_refused(self.job("score", model=path), path, f"'{tensor}'")

    def test_degrees(self):
        if N_RANKS == 1:
            self.skipTest("one rank divides everything")
        self.check_refused(self.job("run", n_ranks=3), "3", "8 attention heads", "num_attention_heads")
        self.check_refused(self.job("run", "--ranks-per-node", "2", n_ranks=3), "nodes of 2 (--ranks-per-node", "3 ranks")
        self.check_refused(self.job("run", "--tensor-parallel-size", "8", n_ranks=2), "nodes of 8", "2 ranks")
        self.check_refused(self.job("run", "--expert-parallel-size", "4"), "--expert-parallel-size 4", "2 nodes")


@one_process
class BadCheckpoints(ProgramTest):
    """What convert refuses; it leaves nothing under the name that it was given."""

    def checkpoint(self, change_config=None, change_header=None):
        folder = self.folder / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(CHECKPOINT / name, folder)
        if change_config:
            config = json.loads((CHECKPOINT / "config.json").read_text())
            change_config(config)
            (folder / "config.json").write_text(json.dumps(config))
        weights = (CHECKPOINT / "model.safetensors").read_bytes()
        if change_header:
            n = int.from_bytes(weights[:8], "little")
            header = json.loads(weights[8 : 8 + n])
            change_header(header)
            text = json.dumps(header).encode()
            weights = len(text).to_bytes(8, "little") + text + weights[8 + n :]
        (folder / "model.safetensors").write_bytes(weights)
        return folder

    def refused(self, folder, *words):
        ended = mixserve("convert", "--hf-dir", folder, "--output", self.folder / "m.h5")
        self.check_refused(ended, *words)
        self.assertEqual(list(self.folder.glob("m.h5*")), [], ended)

    def test_config(self):
        def unknown_family(config):
            config["model_type"] = "qwen3_mo"

        def unknown_key(config):
            config["attention_sink_size"] = 4

        def bad_value(config):
            config["num_attention_heads"] = "many"

        self.refused(self.checkpoint(unknown_family), "config.json", "qwen3_mo", "qwen3_moe")
        self.refused(self.checkpoint(unknown_key), "config.json", "attention_sink_size")
        self.refused(self.checkpoint(bad_value), "config.json", "num_attention_heads")

    def test_tensors(self):
        name = "model.layers.3.self_attn.o_proj.weight"

        def missing(header):
            header["unknown.weight"] = header.pop(name)

        def misshapen(header):
            header[name]["shape"] = header[name]["shape"][::-1] + [1]

        def short(header):
            header[name]["data_offsets"][1] -= 2

        self.refused(self.checkpoint(change_header=missing), "checkpoint", "weight")
        self.refused(self.checkpoint(change_header=misshapen), name, "shape")
        self.refused(self.checkpoint(change_header=short), name)

    def test_files(self):
        folder = self.checkpoint()
        (folder / "model.safetensors").unlink()
        self.refused(folder, "safetensors")
        folder = self.checkpoint()
        (folder / "config.json").write_text("{")
        self.refused(folder, "config.json")
        self.check_refused(
            mixserve("convert", "--hf-dir", CHECKPOINT, "--output", self.folder / "nowhere" / "m.h5"), "nowhere")
        there = self.write("there.h5", "mine")
        self.check_refused(mixserve("convert", "--hf-dir", CHECKPOINT, "--output", there), there, "--force")
        self.assertEqual(there.read_text(), "mine")


class BadFolders(ProgramTest):
    def setUp(self):
        super().setUp()
        self.write_lines("in.jsonl", [{"prompt": "To be", "max_tokens": 1}])

    def test_output(self):
        mine = self.write("mine", "text")
        self.check_refused(self.job("run", output="mine"), mine, "--output-dir")
        self.check_refused(self.job("run", output="mine/out"), "mine/out", "output folder")
        (self.folder / "full").mkdir()
        self.write("full/row", "text")
        self.check_refused(self.job("run", output="full"), "full", "not empty")
        self.assertEqual(os.listdir(self.folder / "full"), ["row"])

    def test_input(self):
        (self.folder / "in.jsonl").unlink()
        self.check_refused(self.job("run"), "in.jsonl", "No such file")
        (self.folder / "in.jsonl").mkdir()
        self.check_refused(self.job("run"), "in.jsonl", "folder")


if __name__ == "__main__":
    unittest.main(verbosity=2)
