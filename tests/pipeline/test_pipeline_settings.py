import pytest

from flops_fit.errors import ConfigError
from flops_fit.pipeline.check import check_disk, check_python, check_writable, memory_warning
from flops_fit.pipeline.configuration import identity, load_pipeline_config
from flops_fit.pipeline.settings import FLAGS
from flops_fit.planning.settings import candidate_sizes
from flops_fit.presets import PIPELINE_GROUPS, preset_names

PRESETS = preset_names(groups=PIPELINE_GROUPS)


@pytest.mark.parametrize("preset", ["quick", "default", "high_quality", "low_memory"])
def test_every_preset_composes_with_a_sweep_of_five_budgets_and_three_sizes(preset):
    config = load_pipeline_config([f"pipeline={preset}"])
    assert len(config.sweep.compute_budgets) >= 5
    assert config.sweep.num_sizes_per_budget >= 3
    assert len(candidate_sizes(config.sweep)) > config.sweep.num_sizes_per_budget
    assert config.sweep.limits.max_epochs == 4


def test_quick_takes_one_pass_of_a_megabyte_and_a_sweep_up_to_2e10():
    config = load_pipeline_config(["pipeline=quick"])
    assert (config.corpus.megabytes, config.pipeline.epochs) == (1, 1)
    assert max(config.sweep.compute_budgets) <= 2e10


def test_every_source_of_text_has_its_preset():
    assert PRESETS["corpus"] == ("files", "generated", "opus_books", "stdlib")
    assert load_pipeline_config().corpus.source == "generated"


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("epochs", 3, "pipeline.epochs"), ("batch_size", 5, "pipeline.batch_size"),
        ("learning_rate", 0.02, "pipeline.learning_rate"), ("vocab_size", 300, "pipeline.vocab_size"),
        ("max_seq_length", 32, "pipeline.max_seq_length"), ("output_dir", "x", "output_dir"),
        ("min_free_gb", 2.0, "min_free_gb"), ("skip_tokenizer", True, "skip_tokenizer"), ("resume", True, "resume"),
    ],
)  # fmt: skip
def test_a_flag_and_its_key_are_the_same_setting(flag, value, key):
    assert FLAGS[flag] == key
    assert load_pipeline_config(flags={flag: value}) == load_pipeline_config([f"{key}={value}"])


def test_files_given_by_flag_are_the_corpus():
    config = load_pipeline_config(flags={"corpus_path": ["a b.txt", "c,d.txt"], "corpus_url": "http://x/y.txt"})
    assert config.corpus.source == "files"
    assert config.corpus.paths == ("a b.txt", "c,d.txt")
    assert config.corpus.url == "http://x/y.txt"
    with pytest.raises(ConfigError, match="expected one corpus"):
        load_pipeline_config(["corpus=opus_books"], {"corpus_path": ["a.txt"]})


@pytest.mark.parametrize(
    ("overrides", "flags", "message"),
    [
        ([], {"epochs": 0}, "from 1.*--epochs"),
        ([], {"batch_size": 0}, "from 1.*--batch-size"),
        ([], {"learning_rate": 0.0}, "above 0, up to 10.*--learning-rate"),
        ([], {"learning_rate": 10.5}, "above 0, up to 10"),
        ([], {"vocab_size": 256}, "from 257.*--vocab-size"),
        ([], {"max_seq_length": 4}, "8 to 4096.*--max-seq-length"),
        ([], {"min_free_gb": -1.0}, "--min-free-gb"),
        (["pipeline.epoch=3"], {}, "Did you mean 'epochs'"),
        (["pipeline.limits.lexicn=1"], {}, "Did you mean 'lexicon'"),
        (["pipeline=quik"], {}, "Did you mean 'quick'"),
        (["corpus=files"], {}, "--corpus-path"),
        (["corpus.megabytes=0"], {}, "above 0"),
    ],
)
def test_values_out_of_range_and_unknown_names_are_refused_with_what_to_try(overrides, flags, message):
    with pytest.raises(ConfigError, match=message):
        load_pipeline_config(overrides, flags)


@pytest.mark.parametrize("flags", [{"learning_rate": 10.0, "vocab_size": 257, "epochs": 1, "batch_size": 1}])
def test_the_ends_of_the_ranges_are_allowed(flags):
    load_pipeline_config(flags=flags)


def test_where_a_run_lies_is_not_part_of_what_it_is():
    here, there = load_pipeline_config(flags={"output_dir": "a"}), load_pipeline_config(flags={"output_dir": "b"})
    assert identity(here) == identity(there)
    assert identity(load_pipeline_config(flags={"epochs": 2})) != identity(here)


def test_the_check_refuses_too_little_disk_and_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match=r"disk: got .* GB free .*--min-free-gb"):
        check_disk(tmp_path, 999_999)
    assert check_disk(tmp_path, 0.0) > 0
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"expected a writable folder.*--output-dir"):
        check_writable(tmp_path / "file" / "out")


def test_the_check_names_missing_packages(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tokenizers" else object())
    with pytest.raises(ConfigError, match="none named tokenizers"):
        check_python()


def test_memory_is_warned_of_by_the_flag_that_lowers_it():
    large = load_pipeline_config(flags={"batch_size": 512, "vocab_size": 50_000})
    assert "--batch-size" in memory_warning(large, free=4_000_000_000)
    assert memory_warning(load_pipeline_config(), free=4_000_000_000) is None
