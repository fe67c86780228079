"""Peak FLOP/s of a device, which model FLOPs utilisation is a share of."""

import time
from functools import cache

import torch

# Dense bf16 and fp16 peak in FLOP/s, by a part of the device's name; from the vendors' data sheets.
GPU_PEAKS = {
    "B200": 2.25e15, "H200": 9.89e14, "H100 PCIe": 7.56e14, "H100 NVL": 8.35e14, "H100": 9.89e14, "A100": 3.12e14,
    "L40S": 3.62e14, "L4": 1.21e14, "A10G": 7.0e13, "V100": 1.25e14, "T4": 6.5e13,
}  # fmt: skip
MATRIX_SIZE = 1024
TRIALS = 3


def peak_flops_per_second(device: torch.device, precision: str) -> float:
    """Returns the peak of one device: from a table for known GPUs in 16 bit, else measured with a matrix product."""
    if device.type == "cuda" and precision != "fp32":
        name = torch.cuda.get_device_name(device)
        for part, peak in GPU_PEAKS.items():
            if part in name:
                return peak
    return _measured(device, precision, torch.get_num_threads())


@cache
def _measured(device: torch.device, precision: str, num_threads: int) -> float:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    # No random numbers: the generators belong to the runs.
    matrix = torch.ones(MATRIX_SIZE, MATRIX_SIZE, dtype=dtype, device=device)
    seconds = []
    for _ in range(TRIALS):
        started = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # Waits for a GPU.
        seconds.append(time.perf_counter() - started)
    return float(2 * MATRIX_SIZE**3 / min(seconds))
