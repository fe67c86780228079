"""Names of columns: what each quantity is called, in this project and elsewhere.

A name is compared without case, blanks, underscores, dashes and slashes, and without a unit in parentheses; the letters
C, N and D are compared as they are, since d or n may stand for anything.
"""

import re

NAMES: dict[str, tuple[str, ...]] = {
    "compute": ("C", "compute", "flops"),
    "compute_budget": ("compute_budget",),
    "num_params": ("N", "params", "num_params"),
    "num_tokens": ("D", "tokens", "num_tokens"),
    "loss": ("loss",),
    "condition": ("condition",),
    "seed": ("seed",),
    "group": ("group",),
    "status": ("status",),
    "learning_rate": ("learning_rate", "lr"),
    "epochs": ("epochs",),
    "schedule_tokens": ("schedule_tokens",),
    "unique_tokens": ("unique_tokens",),
    "num_params_non_embedding": ("num_params_non_embedding", "N_no_embed"),
    "loss_std_error": ("loss_std_error",),
}
"""The documented names of each quantity."""

ALIASES: dict[str, tuple[str, ...]] = {
    "compute": (
        "flop", "num_flops", "total_flops", "total_flop", "total_flos", "train_flops", "train_flop", "training_flops",
        "training_flop", "train/total_flops", "train/total_flos", "total_compute", "train_compute", "training_compute",
    ),
    "compute_budget": ("flops_budget", "flop_budget", "target_flops", "budget_flops"),
    "num_params": (
        "n_params", "parameters", "num_parameters", "n_parameters", "model_size", "model_params", "model_parameters",
        "total_params", "total_parameters", "param_count", "params_count", "parameter_count",
    ),
    "num_tokens": (
        "n_tokens", "train_tokens", "training_tokens", "num_train_tokens", "num_training_tokens", "n_train_tokens",
        "tokens_seen", "num_tokens_seen", "total_tokens", "tokens_trained", "tokens_consumed", "consumed_tokens",
        "num_input_tokens_seen", "train/num_input_tokens_seen", "train/tokens", "train/tokens_seen", "token_count",
    ),
    "status": ("state", "run_state"),
    "seed": ("random_seed", "rng_seed"),
    "num_params_non_embedding": (
        "non_embedding_params", "non_embedding_parameters", "params_non_embedding", "n_params_non_embedding",
        "num_non_embedding_params", "params_no_embed", "num_params_no_embed",
    ),
    "loss_std_error": (
        "loss_se", "loss_stderr", "loss_std_err", "loss_sem", "loss_standard_error", "val_loss_se", "val_loss_stderr",
        "val_loss_std_error", "eval_loss_se", "eval_loss_stderr", "eval_loss_std_error",
    ),
}  # fmt: skip
"""What others call them; the loss has its own list below."""

LOSS_WORDS = ("loss", "lm_loss", "ce_loss", "cross_entropy", "cross_entropy_loss", "nll", "nll_loss")
LOSS_SETS = {
    "held-out": ("val", "valid", "validation", "eval", "evaluation", "held_out", "dev"),
    "test": ("test",),
    "unstated": ("",),
    "training": ("train", "training"),
}
"""Which data a loss was measured on, by the word before or after it: val_loss, eval/loss, loss_test."""

UNITS = {
    "compute": {"flop", "flops"},
    "compute_budget": {"flop", "flops"},
    "num_params": {"params", "parameters", "count"},
    "num_params_non_embedding": {"params", "parameters", "count"},
    "num_tokens": {"tokens", "count"},
    "loss": {"nat", "nats", "natstoken", "natspertoken"},
    "loss_std_error": {"nat", "nats", "natstoken", "natspertoken"},
}
"""Units in which a column is read as it is, normalised as names are."""

COUNTS = ("compute", "compute_budget", "num_params", "num_tokens", "num_params_non_embedding")
MULTIPLE = re.compile(
    r"[\W_](k|m|mm|b|bn|g|t|thousands?|millions?|billions?|trillions?|[kmgtpez]flops?|(?:pf|pflops?)[\W_]?days?)"
    r"[\W_]*$",
    re.IGNORECASE,
)
"""The end of a name that counts in millions or the like: "Params (M)", tokens_b."""


def is_column_of(column: str, quantity: str) -> bool:
    """Whether a column's name, and the unit in it, mean a quantity."""
    base, unit = split_unit(column)
    return is_name_of(base, quantity) and (not unit or normalise(unit) in UNITS.get(quantity, ()))


def is_name_of(base: str, quantity: str) -> bool:
    """Whether a name without its unit means a quantity."""
    if quantity == "loss":
        return loss_set(base) is not None
    names = (*NAMES[quantity], *ALIASES.get(quantity, ()))
    return base in NAMES[quantity] or normalise(base) in {normalise(n) for n in names if len(n) > 1}


def loss_set(column: str) -> str | None:
    """Which data a loss was measured on, by the name of its column; None for what is no loss."""
    name = normalise(split_unit(column)[0])
    name = name.removeprefix("final").removesuffix("final")
    for measured_on, words in LOSS_SETS.items():
        for a in map(normalise, words):
            if any(name in (a + b, b + a) for b in map(normalise, LOSS_WORDS)):
                return measured_on
    return None


def split_unit(column: str) -> tuple[str, str]:
    """Splits "Loss (nats)" into "Loss" and "nats"; the unit is "" where there is none."""
    start = min((k for k in map(column.find, "([") if k >= 0), default=-1)
    if start < 0 or column[-1] not in ")]":
        return column, ""
    return column[:start].strip(), column[start + 1 : -1].strip()


def normalise(name: str) -> str:
    """Leaves letters and digits of a name, in lower case."""
    return "".join(c for c in name.lower() if c.isalnum())
