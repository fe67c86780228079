"""A Llama of transformers, swept over hidden_size on a folder of text that datasets loads."""
# python examples/hf_llama/example.py --text-dir text --output-dir outputs/llama

import argparse
from pathlib import Path

from datasets import load_dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from flops_fit import find_optimal
from flops_fit.errors import ConfigError, FlopsFitError

VOCAB_SIZE, SEQ_LEN = 384, 64
# Budgets grow with the text, so that little of it is not repeated often, up to 20,000 samples: some minutes.
FLOPS_PER_SAMPLE, MAX_SAMPLES = (2.5e5, 6e5, 1.4e6, 3.35e6, 8e6), 20_000
SWEEP = {"min_size": 4, "max_size": 64, "size_multiple": 4, "num_sizes_per_budget": 5, "half_width": 4}


def make(hidden_size):
    shape = {"hidden_size": hidden_size, "intermediate_size": 3 * hidden_size, "vocab_size": VOCAB_SIZE}
    return LlamaForCausalLM(LlamaConfig(**shape, num_hidden_layers=2, num_attention_heads=2))


def read_text(text_dir):
    files = sorted(str(path) for path in Path(text_dir).rglob("*") if path.is_file())
    for path in files or [text_dir]:
        try:
            Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--text-dir: no UTF-8 text in {path}. Convert it or name another folder.") from error
    data = load_dataset("text", data_files=files, split="train", sample_by="document")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(data["text"], vocab_size=VOCAB_SIZE, show_progress=False)

    def pack(rows):
        tokens = [token for encoding in tokenizer.encode_batch(rows["text"]) for token in encoding.ids]
        blocks = [tokens[i : i + SEQ_LEN] for i in range(0, len(tokens) - SEQ_LEN + 1, SEQ_LEN)]
        return {"input_ids": blocks, "labels": blocks}

    return data.map(pack, batched=True, remove_columns=["text"]).with_format("torch")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text-dir", required=True)
    parser.add_argument("--output-dir", default="outputs/llama")
    args = parser.parse_args()
    try:
        data = read_text(args.text_dir)
        budgets = [flops * max(1, min(len(data), MAX_SAMPLES)) for flops in FLOPS_PER_SAMPLE]
        print(find_optimal(make, "hidden_size", {}, data, None, budgets, sweep=SWEEP, output_dir=args.output_dir))
    except FlopsFitError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
