"""The kernels that have page_pinner, one module each. A new kernel is a module and a line of this list."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.generations.android12_5_10 import ANDROID12_5_10
from pinnerfs.kernel.page_pinner.generations.android12_5_10_early import ANDROID12_5_10_EARLY
from pinnerfs.kernel.page_pinner.generations.android13_5_10_buffer import ANDROID13_5_10_BUFFER
from pinnerfs.kernel.page_pinner.generations.android14_5_15 import ANDROID14_5_15
from pinnerfs.kernel.page_pinner.generations.android14_6_1 import ANDROID14_6_1
from pinnerfs.kernel.page_pinner.generations.android15_6_6 import ANDROID15_6_6
from pinnerfs.kernel.page_pinner.generations.generation import Generation, Mark
from pinnerfs.kernel.page_pinner.generations.introduced import INTRODUCED
from pinnerfs.kernel.page_pinner.generations.pixel_5_10 import PIXEL_5_10

__all__ = ["GENERATIONS", "INTRODUCED", "Generation", "Mark"]

_LIST = (
    INTRODUCED,
    ANDROID12_5_10_EARLY,
    ANDROID12_5_10,
    PIXEL_5_10,
    ANDROID13_5_10_BUFFER,
    ANDROID14_5_15,
    ANDROID14_6_1,
    ANDROID15_6_6,
)
GENERATIONS = {generation.name: generation for generation in _LIST}
