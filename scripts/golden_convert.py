"""GGUF files of golden models, by llama.cpp's own converter."""
import importlib
import json
import shutil
import sys
import tempfile
from pathlib import Path


def convert(llama_cpp, folder, path, pre=None):
    """`llama_cpp` is its source. `pre`: the name of the tokenizer's pre-tokenizer; None: without a tokenizer."""
    if str(llama_cpp) not in sys.path:
        sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
        for name in [m for m in sys.modules if m.split(".")[0] == "gguf"]:
            del sys.modules[name]  # it has one of its own
    base, converter = importlib.import_module("conversion.base"), importlib.import_module("convert_hf_to_gguf")
    for module in ("qwen", "gemma", "phi", "gpt2", "gptneox", "stablelm", "bert"):
        importlib.import_module("conversion." + module)
    kinds = [base.TextModel]
    for kind in kinds:
        if pre:
            kind.get_vocab_base_pre = lambda self, tokenizer: pre
        else:
            kind.set_vocab = lambda self: self.gguf_writer.add_tokenizer_model("none")
        kinds += kind.__subclasses__()
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d) / folder.name
        shutil.copytree(folder, copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(dict(config, n_ctx=config.get("n_positions"))))  # which it asks of gpt2
        if not pre:
            vocab = {str(i): i for i in range(config["vocab_size"])}  # and how many there are, of gemma3
            (copy / "tokenizer.json").write_text(json.dumps(dict(model=dict(vocab=vocab), added_tokens=[])))
        sys.argv = ["convert", str(copy), "--outfile", str(path), "--outtype",
                    "f32" if config.get("dtype") == "float32" else "auto"]
        converter.main()
