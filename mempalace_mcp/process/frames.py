"""What travels on the socket between a bridge and the daemon: lines with a header.

    bridge to daemon   `<sequence> <line of the client>`
                       `<sequence>? <line>`: the request is under suspicion
                       `<sequence>~ <line>`: an earlier daemon had the message already
                       `0 `: is anybody there? The answer is an empty notice
    daemon to bridge   `<sequence> <answer>`; nothing behind the header settles a message that has no answer
                       `<sequence>! `: the suspect begins, and no other one runs beside it
                       `0 <line>`: a message of the server's own
                       `0! <JSON>`: a notice of the daemon to the bridge

The first line each way is a greeting without a header (`hello`). Sequence numbers of a bridge begin at 1 and rise.
"""

from __future__ import annotations

from mempalace_mcp.protocol.lines import MAX_MESSAGE_BYTES

MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + 64
SUSPECT = "?"
AGAIN = "~"
ALONE = "!"
NOTICE = "!"
OWN_MESSAGE = 0


class Frame:
    """A line and its header."""

    __slots__ = ("line", "mark", "sequence")

    def __init__(self, sequence: int, line: bytes, mark: str = "") -> None:
        self.sequence = sequence
        self.line = line
        self.mark = mark

    def encode(self) -> bytes:
        """As it is sent, newline included."""
        return b"%d%b %b\n" % (self.sequence, self.mark.encode("ascii"), self.line)

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """Read one, without its newline.

        Raises:
            ValueError: the bytes are no frame.
        """
        header, space, line = data.partition(b" ")
        digits = header.rstrip(b"?!~")
        if not space or not digits.isdigit():
            raise ValueError(f"no frame: {data[:40]!r}")
        return cls(int(digits), line, header[len(digits) :].decode("ascii"))
