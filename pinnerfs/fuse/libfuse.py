"""libfuse 2's low-level interface as ctypes. No other module imports `fuse`, which finds and loads libfuse."""

from __future__ import annotations

import ctypes
from typing import Any

import fuse

from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = [
    "PROTOTYPES",
    "Arguments",
    "FileInformation",
    "InterruptFunction",
    "Stat",
    "StatVfs",
    "Table",
    "add_channel",
    "add_direntry",
    "check_version",
    "destroy_session",
    "free_arguments",
    "invalidate_entry",
    "invalidate_inode",
    "mount",
    "new_session",
    "on_interrupt",
    "options_text",
    "remove_channel",
    "remove_signal_handlers",
    "reply_buf",
    "reply_err",
    "reply_open",
    "reply_statfs",
    "reply_write",
    "reply_xattr",
    "request_context",
    "serve_session",
    "set_signal_handlers",
    "unmount",
]

FileInformation, Stat, StatVfs = fuse.fuse_file_info, fuse.c_stat, fuse.c_statvfs
options_text = fuse.FUSE._normalize_fuse_options

_library = fuse._libfuse
_address, _size, _offset, _number = ctypes.c_void_p, ctypes.c_size_t, fuse.c_off_t, ctypes.c_ulong
_text, _mode, _flag = ctypes.c_char_p, fuse.c_mode_t, ctypes.c_int

# The members of libfuse's `struct fuse_lowlevel_ops` in their order, with the arguments after the request. A pointer is
# a number here: ctypes would create an object for each.
_MEMBERS: dict[str, tuple[Any, ...]] = {
    "init": (_address,),
    "destroy": (),
    "lookup": (_number, _text),
    "forget": (_number, _number),
    "getattr": (_number, _address),
    "setattr": (_number, _address, _flag, _address),
    "readlink": (_number,),
    "mknod": (_number, _text, _mode, fuse.c_dev_t),
    "mkdir": (_number, _text, _mode),
    "unlink": (_number, _text),
    "rmdir": (_number, _text),
    "symlink": (_text, _number, _text),
    "rename": (_number, _text, _number, _text),
    "link": (_number, _number, _text),
    "open": (_number, _address),
    "read": (_number, _size, _offset, _address),
    "write": (_number, _address, _size, _offset, _address),
    "flush": (_number, _address),
    "release": (_number, _address),
    "fsync": (_number, _flag, _address),
    "opendir": (_number, _address),
    "readdir": (_number, _size, _offset, _address),
    "releasedir": (_number, _address),
    "fsyncdir": (_number, _flag, _address),
    "statfs": (_number,),
    "setxattr": (_number, _text, _address, _size, _flag),
    "getxattr": (_number, _text, _size),
    "listxattr": (_number, _size),
    "removexattr": (_number, _text),
    "access": (_number, _flag),
    "create": (_number, _text, _mode, _address),
    "getlk": (_number, _address, _address),
    "setlk": (_number, _address, _address, _flag),
    "bmap": (_number, _size, ctypes.c_uint64),
    "ioctl": (_number, ctypes.c_uint, _address, _address, ctypes.c_uint, _address, _size, _size),
    "poll": (_number, _address, _address),
    "write_buf": (_number, _address, _offset, _address),
    "retrieve_reply": (_address, _number, _offset, _address),
    "forget_multi": (_size, _address),
    "flock": (_number, _address, _flag),
    "fallocate": (_number, _flag, _offset, _offset, _address),
}
PROTOTYPES = {name: ctypes.CFUNCTYPE(None, _address, *arguments) for name, arguments in _MEMBERS.items()}


class Table(ctypes.Structure):
    """A `struct fuse_lowlevel_ops`."""

    _fields_ = list(PROTOTYPES.items())


class Arguments(ctypes.Structure):
    """A `struct fuse_args`."""

    _fields_ = [("argc", _flag), ("argv", ctypes.POINTER(_text)), ("allocated", _flag)]


class RequestContext(ctypes.Structure):
    """A `struct fuse_ctx`."""

    _fields_ = [("uid", ctypes.c_uint), ("gid", ctypes.c_uint), ("pid", _flag), ("umask", _mode)]


InterruptFunction = ctypes.CFUNCTYPE(None, _address, _address)


def check_version() -> None:
    """Check that the library that fusepy loaded is libfuse 2. PinnerfsError names the package to install."""
    version = _library.fuse_version()
    # 29 is 2.9, and 310 is 3.10.
    major, minor = divmod(version, 10 if version < 100 else 100)
    if major != 2:
        raise PinnerfsError(
            f"found libfuse {major}.{minor}, wanted version 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older releases)",
            NO_FUSE,
        )


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, name, None)
    if function is not None:  # libfuse 3 lacks some, see check_version()
        function.restype, function.argtypes = result, arguments
    return function


reply_err = _declare("fuse_reply_err", _flag, _address, _flag)
reply_buf = _declare("fuse_reply_buf", _flag, _address, _text, _size)
reply_open = _declare("fuse_reply_open", _flag, _address, _address)
reply_statfs = _declare("fuse_reply_statfs", _flag, _address, _address)
reply_write = _declare("fuse_reply_write", _flag, _address, _size)
reply_xattr = _declare("fuse_reply_xattr", _flag, _address, _size)
add_direntry = _declare("fuse_add_direntry", _size, _address, _address, _size, _text, _address, _offset)
invalidate_inode = _declare("fuse_lowlevel_notify_inval_inode", _flag, _address, _number, _offset, _offset)
invalidate_entry = _declare("fuse_lowlevel_notify_inval_entry", _flag, _address, _number, _text, _size)
request_context = _declare("fuse_req_ctx", ctypes.POINTER(RequestContext), _address)
on_interrupt = _declare("fuse_req_interrupt_func", None, _address, InterruptFunction, _address)
mount = _declare("fuse_mount", _address, _text, _address)
unmount = _declare("fuse_unmount", None, _text, _address)
new_session = _declare("fuse_lowlevel_new", _address, _address, _address, _size, _address)
add_channel = _declare("fuse_session_add_chan", None, _address, _address)
remove_channel = _declare("fuse_session_remove_chan", None, _address)
destroy_session = _declare("fuse_session_destroy", None, _address)
set_signal_handlers = _declare("fuse_set_signal_handlers", _flag, _address)
remove_signal_handlers = _declare("fuse_remove_signal_handlers", None, _address)
serve_session = _declare("fuse_session_loop", _flag, _address)
free_arguments = _declare("fuse_opt_free_args", None, _address)
