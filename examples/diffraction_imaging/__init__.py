"""Diffraction imaging: simulated far-field patterns under photon noise, reconstructed by a U-Net; D counts pixels."""

from flops_fit.examples.diffraction_imaging.model import UNet
from flops_fit.examples.diffraction_imaging.reconstruction import measure_reconstruction
from flops_fit.examples.diffraction_imaging.simulate import simulate_study
from flops_fit.examples.diffraction_imaging.task import make_imaging_task

__all__ = ["UNet", "make_imaging_task", "measure_reconstruction", "simulate_study"]
