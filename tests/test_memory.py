"""Memory of this process, against what is allocated and what a parent had."""

import subprocess
import sys

from flops_fit.memory import free_host_bytes, peak_resident_bytes, resident_bytes

GROWN = 200_000_000


def test_peak_stays_where_resident_memory_falls():
    before = resident_bytes()
    block = bytearray(b"x") * GROWN
    assert resident_bytes() - before > 0.9 * GROWN
    del block
    assert peak_resident_bytes() - resident_bytes() > 0.5 * GROWN


def test_a_child_does_not_begin_with_the_peak_of_its_parent():
    code = "from flops_fit.memory import peak_resident_bytes; print(peak_resident_bytes())"
    block = bytearray(b"x") * GROWN
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < len(block)


def test_page_cache_counts_as_free(monkeypatch, tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 100 kB\nMemFree: 5 kB\nMemAvailable: 60 kB\n")
    monkeypatch.setattr("flops_fit.memory.MEMINFO", path)
    assert free_host_bytes() == 60 * 1024
