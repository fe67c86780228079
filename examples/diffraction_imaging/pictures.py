"""Pictures of reconstructions beside the truth: amplitude and phase, a row for each view and dose.

The display normalisation is here: the same grey levels for every panel of a kind, nothing outside the probe's disc, and
the global phase, which cannot be known, turned to that of the truth. It never leaves this file.
"""

# N pixels of a side

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from flops_fit.examples.diffraction_imaging.dataset import load_groups
from flops_fit.examples.diffraction_imaging.objects import AMPLITUDE, MAX_PHASE
from flops_fit.examples.diffraction_imaging.reconstruction import align_phase, reconstruct
from numpy.typing import NDArray
from torch import nn

from flops_fit.errors import ConfigError
from flops_fit.files import replace_file

LIT = 0.2
"""Where the probe has this fraction of its greatest power, a pixel is shown."""
PANEL_INCHES = 0.8

Shown = tuple[np.ma.MaskedArray, np.ma.MaskedArray]
"""Amplitude and phase of a patch, where there is light."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """A trained network, and the test file that it is shown on."""

    model: nn.Module
    test_file: Path
    gridsize: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    title: str
    panels: Sequence[tuple[Shown, Shown]]
    """Truth and reconstruction of each patch."""


def draw_reconstructions(shown: Sequence[Reconstruction], path: Path, *, num_patches: int = 3) -> None:
    """Draws the same patches for all; of each patch the true and the found amplitude, then both phases.

    Args:
        shown: A row each, labelled with view and dose of its file.
        path: Of the picture; its ending names the format, such as .png.
        num_patches: Evenly spaced over each file; at most those there are.

    Raises:
        ConfigError: If there is nothing to show, or the format is unknown.
        InputError: If a file breaks the contract.
        StoreError: If the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not shown or num_patches < 1:
        raise ConfigError(
            f"pictures: got {len(shown)} reconstructions of {num_patches} patches, expected at least one of each. "
            "Train a network first."
        )
    form = path.suffix.lstrip(".")
    if form not in FigureCanvasAgg.get_supported_filetypes():
        raise ConfigError(f"pictures: got the name {path.name!r}, expected one that ends in .png, .svg or .pdf.")
    rows = [_make_row(one, num_patches) for one in shown]
    columns = 4 * max(len(row.panels) for row in rows)
    figure = Figure(figsize=(PANEL_INCHES * columns + 1.2, PANEL_INCHES * len(rows) + 0.5), dpi=100)
    axes = np.atleast_2d(figure.subplots(len(rows), columns, squeeze=False))
    for row, line in zip(rows, axes, strict=True):
        _draw_row(row, line)
    heads = ("|o| true", "|o| found", "phase true", "phase found")
    for column, axis in enumerate(axes[0]):
        axis.set_title(heads[column % 4], fontsize=7)
    left = 1.1 / (PANEL_INCHES * columns + 1.2)
    figure.subplots_adjust(
        left=left, right=0.995, bottom=0.01, top=1 - 0.3 / figure.get_figheight(), wspace=0.06, hspace=0.06
    )
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format=form)
    replace_file(path, buffer.getvalue())


def to_display(patch: NDArray[np.complex128], probe: NDArray[np.complex64]) -> Shown:
    """Returns amplitude and phase of the square around the disc; what is dark in it, and so not measured, is masked."""
    power = np.abs(probe) ** 2
    lit = power >= LIT * power.max()
    square = tuple(slice(found.min(), found.max() + 1) for found in np.nonzero(lit))
    parts = (np.abs(patch), np.angle(patch))
    amplitude, phase = (np.ma.masked_array(part[square].copy(), ~lit[square]) for part in parts)
    return amplitude, phase


def _make_row(one: Reconstruction, num_patches: int) -> _Row:
    groups = load_groups(one.test_file, gridsize=one.gridsize)
    patterns = groups.patterns
    ids = np.unique(np.linspace(0, groups.num_samples - 1, num_patches).astype(np.int64))
    truth = patterns.truth[patterns.groups[ids, 0]]
    found = align_phase(reconstruct(one.model, groups)[ids], truth, np.abs(patterns.probe) ** 2)
    pairs = [
        (to_display(true.astype(np.complex128), patterns.probe), to_display(guess, patterns.probe))
        for true, guess in zip(truth, found, strict=True)
    ]
    title = f"{patterns.metadata['view']}\n{patterns.metadata['nphotons']:,.0f} photons"
    return _Row(title=title, panels=pairs)


def _draw_row(row: _Row, axes: NDArray[np.object_]) -> None:
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    axes[0].set_ylabel(row.title, fontsize=7, rotation=0, ha="right", va="center", labelpad=4)
    for i, (true, found) in enumerate(row.panels):
        pictures = (true[0], found[0], true[1], found[1])
        for axis, picture, is_phase in zip(axes[4 * i : 4 * i + 4], pictures, (False, False, True, True), strict=True):
            low, high = (-MAX_PHASE, MAX_PHASE) if is_phase else AMPLITUDE
            axis.imshow(picture, cmap="twilight" if is_phase else "gray", vmin=low, vmax=high)
