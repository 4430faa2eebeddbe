"""The short way through a stream whose chunks differ only in their text."""


class Mould:
    """The form of a chunk that was checked in full, around its text: the next one most often differs only there.

    A chunk of the same form, whose text needs no escape, is thereby checked as well: same choice, same members,
    well-formed, nothing finished. It saves the parse of almost every event of a stream.
    """

    __slots__ = ("_head", "_sent_head", "_sent_tail", "_tail", "least")

    def __init__(self, head: bytes, tail: bytes, sent_tail: bytes) -> None:
        self._head = head
        self._tail = tail
        self.least = len(head) + len(tail)
        """Bytes of a chunk without its text."""
        self._sent_head = b"data: " + head
        self._sent_tail = sent_tail + b"\n\n"

    def fill(self, data: bytes) -> bytes | None:
        """The item for this chunk if it has the form, else None."""
        if len(data) < self.least or not data.startswith(self._head) or not data.endswith(self._tail):
            return None
        text = data[len(self._head) : -len(self._tail)]
        if b'"' in text or b"\\" in text:
            return None
        try:
            if not text.decode().isprintable():
                return None
        except UnicodeDecodeError:
            return None
        return b"%b%b%b" % (self._sent_head, text, self._sent_tail)


def take_mould(data: bytes, sent: bytes, text: bytes) -> Mould | None:
    """The form of a chunk whose text is this raw JSON string; None when it cannot be told from the rest."""
    if len(text) <= 2 or not text.startswith(b'"') or data.count(text) != 1:  # noqa: PLR2004 - the two quotes
        return None
    start = data.index(text) + 1
    end = start + len(text) - 2
    removed = len(data) - len(sent)
    if sent[: end + 1] != data[: end + 1]:
        return None  # what was removed stood before the text
    return Mould(data[:start], data[end:], sent[end : len(data) - removed])
