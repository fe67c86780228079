"""A vision transformer on CIFAR-10: images as samples, plain logits, D counted in images."""

from flops_fit.examples.vit_cifar.cifar10 import CIFAR10Dataset
from flops_fit.examples.vit_cifar.model import VisionTransformer, vit_loss_fn

__all__ = ["CIFAR10Dataset", "VisionTransformer", "vit_loss_fn"]
