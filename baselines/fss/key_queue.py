"""A role's unused keys, in the order in which they came: the offline pass appends, the online pass takes."""

from collections import deque
from collections.abc import Callable

from torch import Tensor

from protocols.on_disk import Messages

Read = Callable[[], Tensor]


class KeyQueue:
    """Messages of one step, each under what it is for (`kind`)."""

    def __init__(self, file: Messages | None = None) -> None:
        """file: where they wait; None: in memory."""
        self._file = file
        self._messages: deque[tuple[object, Read]] = deque()

    def __len__(self) -> int:
        """Of messages that nobody has taken."""
        return len(self._messages)

    def clear(self) -> None:
        """Forget all; a file is given back."""
        self._messages.clear()
        if self._file is not None:
            self._file.clear()

    def append(self, kind: object, message: Tensor) -> None:
        """Keep it. Raises OSError where the disk has no room for it."""
        read = (lambda: message) if self._file is None else self._file.append(message)
        self._messages.append((kind, read))

    def take(self, kind: object) -> Read:
        """What gives the next one. Raises RuntimeError if that is for something else."""
        found, read = self._messages.popleft() if self._messages else (None, None)
        if read is None or found != kind:
            raise RuntimeError(f"{kind} is needed, {found} was dealt")
        return read
