"""Memory that is a file: for what a role keeps longer than it fits its memory."""

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from protocols.errors import Unsupported

BUFFER = 1 << 20  # bytes that are written at a time
RESIDENT = 64 << 20  # bytes of messages that were read and stay in memory, about


class OnDisk:
    """Memory that is a file in a folder, readable by its owner alone and without a name.

    The kernel frees its space when the process ends, by a kill as well: nothing is left to remove.
    """

    def __init__(self, folder: str, total: int) -> None:
        """Raises Unsupported for no folder, or one whose disk has no room for `total` bytes."""
        if not Path(folder).is_dir():
            raise Unsupported(f"store_dir={folder} is no folder: name one that exists")
        if total > (free := shutil.disk_usage(folder).free):
            text = f"{total / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
            raise Unsupported(f"store_dir={folder}: {text}: name a folder on a larger disk")
        self._folder = folder

    def __call__(self, size: int) -> Tensor:
        """`size` bytes, uint8, zero. Raises OSError where the disk has no room for them."""
        with tempfile.TemporaryFile(dir=self._folder) as file:  # mode 0600
            os.posix_fallocate(file.fileno(), 0, size)
            pages = mmap.mmap(file.fileno(), size)
        return torch.from_numpy(np.frombuffer(pages, np.uint8))

    def copy(self, tensor: Tensor) -> Tensor:
        """`tensor` (not empty) in such a file; it takes memory when it is read. Raises OSError as
        above."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(tensor.contiguous().view(-1).numpy().data.cast("B"))
            file.flush()
            pages = mmap.mmap(file.fileno(), tensor.nbytes)
        stored = torch.from_numpy(np.frombuffer(pages, np.uint8))
        return stored.view(tensor.dtype).reshape(tensor.shape)

    def messages(self) -> "Messages":
        """Many messages in one such file."""
        return Messages(self._folder)


class Messages:
    """Messages one after the other in one file without a name, which is mapped once they are read."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self.clear()

    def clear(self) -> None:
        """Begin a new file. The kernel frees the old one's space as soon as no message of it is in use."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._pages: mmap.mmap | None = None
        self.size = self._left = 0

    def append(self, message: Tensor) -> Callable[[], Tensor]:
        """Write uint8 (n,) at the end; what is returned reads it. Raises OSError as above."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed by clear
                buffering=BUFFER, dir=self._folder
            )
        lo, hi = self.size, self.size + message.numel()
        self._file.write(message.numpy().data)
        self.size, self._pages = hi, None
        return lambda: self._read(lo, hi)

    def _read(self, lo: int, hi: int) -> Tensor:
        if self._file is None or lo == hi:
            return torch.empty(0, dtype=torch.uint8)
        if self._pages is None:
            self._file.flush()
            self._pages = mmap.mmap(self._file.fileno(), self.size)
        if lo - self._left >= RESIDENT:  # what was read before need not stay in memory
            self._pages.madvise(mmap.MADV_DONTNEED, 0, lo // mmap.PAGESIZE * mmap.PAGESIZE)
            self._left = lo
        return torch.from_numpy(np.frombuffer(self._pages, np.uint8, hi - lo, lo))
