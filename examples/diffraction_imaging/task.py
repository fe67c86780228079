"""The imaging task: a U-Net, two files of patterns and the loss, ready to be scaled."""

from pathlib import Path

from flops_fit.examples.diffraction_imaging.dataset import load_groups
from flops_fit.examples.diffraction_imaging.loss import global_phase_free_error
from flops_fit.examples.diffraction_imaging.model import UNet

from flops_fit.errors import InputError
from flops_fit.tasks import Task, make_task


def make_imaging_task(train_file: Path, test_file: Path, *, gridsize: int) -> Task:
    """Puts network, patterns and loss together; the size is ``width`` and D counts detector pixels.

    Args:
        train_file, test_file: As written by `simulate.simulate_study`.
        gridsize: Of both files: 1 gives the network one pattern, 2 a block of four.

    Raises:
        InputError: If a file breaks the contract, or the two have patches of other sizes or objects in common.
    """
    train, test = (load_groups(path, gridsize=gridsize) for path in (train_file, test_file))
    if train.tokens_per_sample != test.tokens_per_sample:
        sizes = [groups.patterns.diffraction.shape[-1] for groups in (train, test)]
        raise InputError(
            f"{test_file}: key 'diffraction': expected patterns of {sizes[0]} x {sizes[0]} pixels, as in {train_file}, "
            f"got {sizes[1]} x {sizes[1]}. Give two files of one simulation."
        )
    ours, theirs = (groups.patterns.object_index for groups in (train, test))
    if ours is not None and theirs is not None and (shared := set(ours.tolist()) & set(theirs.tolist())):
        raise InputError(
            f"{test_file}: key 'object_index': expected objects that {train_file} has not, got {len(shared)} of its "
            f"own, such as {min(shared)}. Give the test file of the same simulation."
        )
    return make_task(
        UNet,
        "width",
        {"in_channels": gridsize**2},
        train_data=train,
        eval_data=test,
        loss_fn=global_phase_free_error,
        name=f"U-Net on {train.patterns.metadata['view']} patterns",
        stated_unit="pixels",
    )
