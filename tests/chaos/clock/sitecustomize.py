"""Makes this process's wall clock one that can be set: it is off by what the file CHAOS_CLOCK says.

Found by the interpreter as it starts, by way of PYTHONPATH. What is moved is what Python code is told
(`time.time`, `time.time_ns`), as by a step of NTP; the monotonic clock is the machine's, as there too. Not
moved: what C code asks for by itself, such as `datetime.now` and the kernel's times of files.
"""

import mmap
import os
import struct
import time

if path := os.environ.get("CHAOS_CLOCK"):
    _fd = os.open(path, os.O_RDONLY)
    _offset = mmap.mmap(_fd, 8, prot=mmap.PROT_READ)
    os.close(_fd)
    _time = time.time

    def _moved() -> float:
        offset: float = struct.unpack_from("<d", _offset)[0]
        return _time() + offset

    time.time = _moved
    time.time_ns = lambda: int(_moved() * 1e9)
