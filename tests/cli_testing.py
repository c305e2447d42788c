"""The program as users run it, for the tests of what they type and what comes back: on a
small model that it wrote itself, with a cache of its own. TEST HEADRACE"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HEADRACE = os.path.abspath(sys.argv.pop(1))
TMP = tempfile.TemporaryDirectory()
WORK = Path(TMP.name)
MODEL = str(WORK / "tiny.gguf")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
CLEAN["XDG_CACHE_HOME"] = str(WORK / "cache")

INT, NUM, STR, LIST, MAP = int, (int, float), str, list, dict
RUN_DOCUMENT = {
    "model": {"path": STR, "family": STR, "n_layers": INT, "n_params": INT, "weight_bytes": INT, "dtype": STR},
    "plan": {"device": STR, "window_layers": INT, "resident_layers": INT, "slots": INT, "host_layers": INT,
             "disk_layers": INT, "device_budget_bytes": INT, "device_map": MAP, "reader": STR, "chunk_bytes": INT,
             "read_depth": INT, "predicted_pass_ms": NUM, "kept_share": NUM, "profile": (STR, type(None)), "fallbacks": LIST},
    "outputs": LIST,
    "timing": {"load_ms": NUM, "prefill_tokens": INT, "prefill_tps": NUM, "decode_tokens": INT, "decode_tps": NUM,
               "passes": INT, "pass_ms_median": NUM},
    "pipeline": {"disk_bytes": INT, "disk_gbps": NUM, "link_bytes": INT, "link_gbps": NUM, "compute_ms": NUM,
                 "stall_ms": NUM, "ceiling_ms": NUM, "efficiency": NUM},
    "memory": {"device_peak_bytes": INT, "host_peak_bytes": INT, "rss_peak_bytes": INT},
    "logits_xxh64": STR,
}


def headrace(*args, stdin="", env=None, **kw):
    return subprocess.run([HEADRACE, *map(str, args)], input=stdin, capture_output=True, text=True, errors="replace", timeout=300,
                          env={**CLEAN, **(env or {})}, **kw)


def run(*args, **kw):
    return headrace("run", MODEL, *args, **kw)


class Case(unittest.TestCase):
    def succeed(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def document(self, *args, **kw):
        return json.loads(self.succeed(run(*args, "--json", **kw)).stdout)

    def one_sentence(self, done, code, *words, stdout=False):
        self.assertEqual(done.returncode, code, done.stderr)
        if not stdout:
            self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, r"\Aheadrace: .+\n\Z", "one line, with the program's name")
        self.assertNotIn("\n", done.stderr[:-1])
        for word in words:
            self.assertIn(word, done.stderr)

    def has_shape(self, value, shape, where="document"):
        self.assertEqual(list(value), list(shape), f"keys of {where}, in order")
        for key, kind in shape.items():
            if isinstance(kind, dict):
                self.has_shape(value[key], kind, f"{where}.{key}")
            else:
                self.assertIsInstance(value[key], kind, f"{where}.{key}")
                self.assertNotIsInstance(value[key], bool, f"{where}.{key}")


def main():
    made = headrace("synth", MODEL, "--like", "tiny-llama", "--type", "q4_0", "--seed", 7)
    if made.returncode:
        sys.exit(made.stderr)
    unittest.main(verbosity=1)
