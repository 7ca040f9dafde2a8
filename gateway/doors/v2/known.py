"""Inferences whose JSON was read before: a client of binary tensors sends the same before each row. Pure.

What is known of one holds for the version that it was checked against, and for nothing else; what depends on
the tensors themselves is not known. It saves the JSON, the checks, and the JSON of the answer.
"""

from __future__ import annotations

from common.tensor import BYTES, Buffer
from gateway.doors.v2.infer import Checked, InferResponse
from gateway.models.catalog import Version
from gateway.scheduling.requests import Answer

MOST = 256  # requests that are remembered
LONGEST = 2048  # bytes of the JSON of one
_MOST_HEADS = 64  # of answers to one
_LOOKED_INTO = ("BOOL", BYTES)  # datatypes whose elements are checked, each time

Name = tuple[str, str | None, bytes]  # model, version, JSON


class Known:
    """A request as it was checked; its tensors stand one after the other, as the signature has them."""

    def __init__(self, checked: Checked) -> None:
        self.checked = checked
        self.size = 0
        self._cuts: list[tuple[int, int]] = []
        self._heads: dict[tuple[object, ...], bytes] = {}
        for spec in checked.signature:
            end = self.size + spec.row_bytes * checked.rows
            self._cuts.append((self.size, end))
            self.size = end

    def fits(self, version: Version, size: int) -> bool:
        """Whether a request that says the same, with so many bytes of tensors, is the same for it."""
        return version is self.checked.version and size == self.size

    def buffers(self, raw: memoryview) -> tuple[Buffer, ...]:
        """The tensors, of `size` bytes together."""
        return tuple([raw[start:end] for start, end in self._cuts])

    def head(self, answer: Answer) -> bytes | None:
        """The JSON before an answer like this one, where there was one."""
        return self._heads.get((answer.outputs, answer.by.worker, answer.hit))

    def learn_head(self, response: InferResponse, head: bytes, sent: list[Buffer]) -> None:
        """An answer's tensors went as they are, behind this."""
        answer = response.answer
        if any(not spec.is_sized for spec in answer.outputs) or len(sent) != len(answer.buffers):
            return
        if all(ours is theirs for ours, theirs in zip(sent, answer.buffers, strict=True)):
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[answer.outputs, answer.by.worker, answer.hit] = head


class KnownRequests:
    """Those of all models, by what was said of them."""

    def __init__(self) -> None:
        self._found: dict[Name, Known] = {}

    def find(self, name: Name) -> Known | None:
        """What is known of a request that says this."""
        return self._found.get(name)

    def learn(self, name: Name, checked: Checked, size: int) -> Known | None:
        """A request was checked that has so many bytes of tensors behind its JSON; None where some stand in
        it, or their elements are looked into."""
        if len(name[2]) > LONGEST or any(spec.datatype in _LOOKED_INTO for spec in checked.signature):
            return None
        names = [tensor.name for tensor in checked.request.inputs]
        if names != [spec.name for spec in checked.signature]:
            return None  # they come in another order than the model takes them
        if len(self._found) >= MOST:
            self._found.clear()
        request = checked.request._replace(
            inputs=tuple([tensor._replace(data=b"") for tensor in checked.request.inputs])
        )
        known = Known(checked._replace(request=request))
        if known.size != size:
            return None
        self._found[name] = known
        return known
