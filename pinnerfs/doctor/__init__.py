"""Find out whether this machine can mount, and what mends it if it cannot."""

from __future__ import annotations

from pinnerfs.doctor.checks import Diagnosis, examine
from pinnerfs.doctor.finding import Finding

__all__ = ["Diagnosis", "Finding", "examine"]
