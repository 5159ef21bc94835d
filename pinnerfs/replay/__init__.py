"""A capture of a device's files, played back byte for byte.

recording = pinnerfs.load_capture("bugreport.zip")
replay = pinnerfs.Replay(recording)
print(replay.cat())
"""

from __future__ import annotations

from pinnerfs.lazy import importer

# As typing.TYPE_CHECKING for type checkers. Importing typing takes time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pinnerfs.replay.content import is_capture
    from pinnerfs.replay.loading import load_capture, recording_of
    from pinnerfs.replay.recording import Entry, Recording
    from pinnerfs.replay.replay import Replay

__all__ = ["Entry", "Recording", "Replay", "is_capture", "load_capture", "recording_of"]

_MODULES = {
    "Entry": "pinnerfs.replay.recording",
    "Recording": "pinnerfs.replay.recording",
    "Replay": "pinnerfs.replay.replay",
    "is_capture": "pinnerfs.replay.content",
    "load_capture": "pinnerfs.replay.loading",
    "recording_of": "pinnerfs.replay.loading",
}

if not TYPE_CHECKING:  # so that a type checker reports a wrong name
    __getattr__ = importer(__name__, _MODULES)
