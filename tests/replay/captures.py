"""Captures of simulations and replays, as text in the format of `pinnerfs record`."""

from __future__ import annotations

from pinnerfs.replay import Replay
from pinnerfs.simulation import Simulation

__all__ = ["capture", "capture_of", "section"]

ROOT = "/sys/kernel/debug"


def section(path: str, text: str) -> str:
    """Return a section with the text of a file below the debugfs root."""
    return f"------ FILE ({ROOT}/{path}) ------\n{text}"


def capture(*sections: str) -> str:
    """Return a capture with these sections."""
    return "".join(["------ PINNERFS CAPTURE 1 ------\n", *sections, "------ END ------\n"])


def capture_of(device: Simulation | Replay) -> str:
    """Return the files of page_pinner, as a capture."""
    generation = device.generation
    texts = {file: device.cat(file) for file in generation.record_files}
    if "threshold" in generation.files:
        texts["threshold"] = f"{device.threshold}\n"
    if "failure_tracking" in generation.files:
        texts["failure_tracking"] = f"{device.tracking:d}\n"
    if "buffer_size" in generation.files:
        texts["buffer_size"] = f"{device.buffer_size}\n"
    return capture(*(section(f"page_pinner/{file}", text) for file, text in texts.items()))
