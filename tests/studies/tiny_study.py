"""A study of seconds: points of a noisy parabola in place of images, and the arguments to run it."""

import json

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from flops_fit.data import make_source
from flops_fit.tasks import make_task
