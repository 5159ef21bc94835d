"""android13-5.15 and android14-5.15: as android13-5.10-buffer, with the flags and the system calls of 5.15."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.generations.android13_5_10_buffer import ANDROID13_5_10_BUFFER
from pinnerfs.kernel.page_pinner.layouts import LEAST_FAILURES

__all__ = ["ANDROID14_5_15"]

ANDROID14_5_15 = ANDROID13_5_10_BUFFER._replace(
    name="android14-5.15",
    about="android13-5.15 and android14-5.15",
    evidence="read in source",
    evidence_about="the rules of android14-6.1, which are recorded, on a 5.15 kernel; how it prints flags is expected",
    mm="android14-5.15",
    layouts={"buffer": LEAST_FAILURES._replace(flags="fields")},
    tail=(
        "__arm64_sys_{}",
        "invoke_syscall",
        "el0_svc_common",
        "do_el0_svc",
        "el0_svc",
        "el0t_64_sync_handler",
        "el0t_64_sync",
    ),
)
