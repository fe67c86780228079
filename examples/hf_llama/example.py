"""A Llama of transformers, swept over hidden_size on a folder of text that datasets loads."""
# python examples/hf_llama/example.py --text-dir text --output-dir outputs/llama

import argparse
from pathlib import Path

from datasets import load_dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from flops_fit import find_optimal
from flops_fit.errors import ConfigError, FlopsFitError

VOCAB_SIZE, SEQ_LEN, BUDGETS = 384, 64, [5e9, 1.2e10, 2.8e10, 6.7e10, 1.6e11]
SWEEP = {"min_size": 4, "max_size": 64, "size_multiple": 4, "num_sizes_per_budget": 5, "half_width": 4}


def make_llama(hidden_size):
    shape = {"hidden_size": hidden_size, "intermediate_size": 3 * hidden_size, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, vocab_size=VOCAB_SIZE))


def read_text(text_dir):
    files = sorted(str(path) for path in Path(text_dir).rglob("*") if path.is_file())
    for path in files or [text_dir]:
        try:
            Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: {'not UTF-8' if files else 'no files'}. Name a folder of UTF-8 text."
            ) from error
    data = load_dataset("text", data_files=files, split="train", sample_by="document")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(data["text"], vocab_size=VOCAB_SIZE, show_progress=False)

    def pack(rows):
        tokens = [token for encoding in tokenizer.encode_batch(rows["text"]) for token in encoding.ids]
        blocks = [tokens[i : i + SEQ_LEN] for i in range(0, len(tokens) - SEQ_LEN + 1, SEQ_LEN)]
        return {"input_ids": blocks, "labels": blocks}

    return data.map(pack, batched=True, remove_columns=["text"]).with_format("torch")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text-dir", required=True)
    parser.add_argument("--output-dir", default="outputs/llama")
    args = parser.parse_args()
    try:
        data, out = read_text(args.text_dir), args.output_dir
        print(find_optimal(make_llama, "hidden_size", None, data, None, BUDGETS, sweep=SWEEP, output_dir=out))
    except FlopsFitError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
