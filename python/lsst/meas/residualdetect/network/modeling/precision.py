# This file is part of meas_residualdetect.
#
# This program is free software: you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation, either version 3 of the License, or
# (at your option) any later version.
#
# This program is distributed in the hope that it will be useful,
# but WITHOUT ANY WARRANTY; without even the implied warranty of
# MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
# GNU General Public License for more details.
#
# You should have received a copy of the GNU General Public License
# along with this program.  If not, see <https://www.gnu.org/licenses/>.

"""Whether bfloat16 is the faster arithmetic here."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

__all__ = ["cpu_flags", "has_bfloat16"]

# Names in /proc/cpuinfo of what multiplies matrices of bfloat16: Intel's and
# AMD's, and ARM's. Elsewhere torch takes a generic convolution, which needed
# eight times as long as that in float32 (AVX2).
_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, as Linux names it; nothing elsewhere."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


@lru_cache(maxsize=4)
def has_bfloat16(device_type: str) -> bool:
    """Whether a device computes in bfloat16 with units made for it.

    Parameters
    ----------
    device_type : `str`
        In torch's words, ``cpu`` or ``cuda``; of others nothing is known, so
        that they are taken to have none.
    """
    if device_type == "cuda":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    return device_type == "cpu" and not _CPU_FLAGS.isdisjoint(cpu_flags())
