"""Values for the cases of limits: texts that services disagreed about, and images of any size."""

import struct
import zlib

from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2

from rpc.limits import limits

UUID = "6f1b7f0c-58a4-4c1e-9d3b-0a1b2c3d4e5f"

EXAMPLES: dict[str, list[tuple[bool, str]]] = {
    limits(images_pb2.GetImageRequest, "key").pattern: [
        (True, "generated/a(1).png"),
        (True, "_/-"),
        (True, "generated/" + "x" * 300),  # longer than the name of a file may be
        (False, "a//b"),
        (False, "/a"),
        (False, "../token"),
        (False, "a/.b"),
    ],
    limits(posts_pb2.CreatePostRequest, "slug").pattern: [(True, "--"), (True, "-a"), (False, "A"), (False, "a_b")],
    limits(tasks_pb2.CreateTaskRequest, "task_id").pattern: [(True, UUID.upper()), (False, UUID.replace("-", ""))],
}
"""For a pattern: texts, each with whether the pattern accepts it."""


def png(size: int) -> bytes:
    """A white PNG of one pixel, made `size` bytes long by a chunk that readers ignore."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(b"\0\xff\xff\xff")) + chunk(b"IEND", b"")
    return header + chunk(b"paDd", bytes(size - len(header) - len(end) - 12)) + end
