"""Task of the pipeline: the reference GPT on the packed corpus, and the recipe that all its runs share."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from flops_fit.data import PackedTokens
from flops_fit.pipeline.architecture import SHAPE, SIZE_PARAM, architecture
from flops_fit.pipeline.settings import PipelineConfig
from flops_fit.pipeline.stages import Context
from flops_fit.planning.recipe import RecipeRule
from flops_fit.tasks import Task, make_task
from flops_fit.training.settings import TrainSettings


def build_task(data: Path, vocab_size: int, seq_len: int) -> Task:
    """Returns the GPT on the packed files of a folder; another process can make it again."""
    model = architecture()
    return make_task(
        model.GPT,
        SIZE_PARAM,
        {**SHAPE, "vocab_size": vocab_size, "seq_len": seq_len},
        train_data=PackedTokens(data / "train.bin", seq_len),
        eval_data=PackedTokens(data / "val.bin", seq_len),
        loss_fn=model.cross_entropy,
        name="pipeline",
    )


def task_maker(context: Context) -> partial[Task]:
    """Returns `build_task` with what the stages before have made."""
    return partial(
        build_task,
        context.root / "data",
        context.facts("tokenizer")["vocab_size"],
        context.facts("pack")["seq_len"],
    )


def recipe_rule(config: PipelineConfig, seq_len: int) -> RecipeRule:
    """The sweep's rule with the pipeline's batch and schedule; a rate given by hand holds for every size."""
    settings = config.pipeline
    rule = replace(
        config.sweep.recipe,
        batch_tokens=settings.batch_size * seq_len,
        batch_exponent=0.0,
        min_batch_samples=settings.batch_size,
        max_batch_samples=settings.batch_size,
        schedule=settings.schedule,
    )
    if settings.learning_rate is None:
        return rule
    rate = settings.learning_rate
    return replace(rule, learning_rate=rate, learning_rate_exponent=0.0, max_learning_rate=rate)


def engine_settings(config: PipelineConfig) -> TrainSettings:
    """Settings of the engine under which equal seeds give equal bits: nothing is chosen by timing."""
    return TrainSettings(
        precision="fp32",
        compile="never",
        workers="auto",
        eval_samples=config.pipeline.eval_samples,
        checkpoint_seconds=config.pipeline.checkpoint_seconds,
    )
