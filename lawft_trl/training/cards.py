"""GPUs and what their makers say of them: memory, 16-bit matrix throughput, memory bandwidth. As of 2026-11.

The throughput is the dense figure (without structured sparsity) with 32-bit accumulation, in TFLOPS: what training uses.
Data sheets often print the doubled, sparse one, and for consumer cards the one with 16-bit accumulation.
"""

import difflib
import re
from dataclasses import dataclass

from lawft_trl.errors import InputError

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU.

    Attributes:
        name: how it is called in full.
        memory: bytes on the board. The driver keeps 1 to 2 % of it for itself.
        tflops: dense 16-bit matrix TFLOPS with 32-bit accumulation.
        bandwidth: memory bandwidth in GB/s.
        bf16: whether it computes in bfloat16.
        source: where the figures are from.
    """

    name: str
    memory: int
    tflops: float
    bandwidth: float
    bf16: bool = True
    source: str


_GA102 = "NVIDIA Ampere GA102 whitepaper"
_ADA = "NVIDIA Ada GPU architecture whitepaper"
_A100 = "NVIDIA A100 data sheet"
_H100 = "NVIDIA H100 data sheet"

CARDS = {
    "t4": Card(name="NVIDIA T4", memory=16 * GIB, tflops=65, bandwidth=320, bf16=False, source="NVIDIA T4 data sheet"),
    "rtx3080": Card(name="GeForce RTX 3080 10 GB", memory=10 * GIB, tflops=59.5, bandwidth=760, source=_GA102),
    "rtx3090": Card(name="GeForce RTX 3090", memory=24 * GIB, tflops=71, bandwidth=936, source=_GA102),
    "rtx4090": Card(name="GeForce RTX 4090", memory=24 * GIB, tflops=165.2, bandwidth=1008, source=_ADA),
    "l4": Card(name="NVIDIA L4", memory=24 * GIB, tflops=121, bandwidth=300, source="NVIDIA L4 data sheet"),
    "a10": Card(name="NVIDIA A10", memory=24 * GIB, tflops=125, bandwidth=600, source="NVIDIA A10 data sheet"),
    "l40s": Card(name="NVIDIA L40S", memory=48 * GIB, tflops=362, bandwidth=864, source="NVIDIA L40S data sheet"),
    "a100-40": Card(name="NVIDIA A100 40 GB", memory=40 * GIB, tflops=312, bandwidth=1555, source=_A100),
    "a100-80": Card(name="NVIDIA A100 80 GB", memory=80 * GIB, tflops=312, bandwidth=2039, source=_A100),
    "h100": Card(name="NVIDIA H100 SXM 80 GB", memory=80 * GIB, tflops=989, bandwidth=3350, source=_H100),
    "h100-pcie": Card(name="NVIDIA H100 PCIe 80 GB", memory=80 * GIB, tflops=756, bandwidth=2000, source=_H100),
    "h200": Card(name="NVIDIA H200", memory=141 * 10**9, tflops=989, bandwidth=4800, source="NVIDIA H200 data sheet"),
}

_UNITS = {"gib": 2**30, "gb": 10**9, "mib": 2**20, "mb": 10**6}


def find_card(name: str) -> Card:
    """A card by its short name.

    Raises:
        InputError: naming those that are known.
    """
    card = CARDS.get(name.lower().replace("_", "-").replace(" ", ""))
    if card is None:
        close = [known for known in CARDS if name.lower() in known][:1] or difflib.get_close_matches(name.lower(), CARDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"--gpu {name}: not in the list of cards{hint}", [f"known: {', '.join(CARDS)}", "for another one, give its memory: --memory 16GiB"])
    return card


def read_memory(text: str) -> int:
    """Bytes of `10GiB`, `24GB` (10^9), `512MiB`.

    Raises:
        InputError: for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(gib|gb|mib|mb)", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise InputError(f"--memory {text}: expected a number above 0 and a unit, e.g. 10GiB, 24GB or 512MiB")
    return round(float(match[1]) * _UNITS[match[2].lower()])
