"""Sends bad packets of every kind to each node: garbage.py HOST:PORT,... COUNT

Frames are built by hand from include/conclave_wire.h, so that some are right but for one thing.
"""
import random
import socket
import struct
import sys

CLUSTER = 0xC0C1
MAGIC = 0x4C434E43
WIRE_REQUEST, WIRE_APPEND, WIRE_VOTE = 32, 3, 1


def crc32c_table():
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def frame(body, magic=MAGIC, version=1, cluster=CLUSTER, source=0, length=None):
    length = 48 + len(body) if length is None else length
    head = struct.pack("<IBBHQIHHQ", magic, version, 0, length, cluster, 0, source, 0, 0)
    crc = crc32c(head + bytes(16) + body)
    return head + struct.pack("<I", crc) + bytes(12) + body


def request(op, name=b"", value=b"", session=0, sequence=0, lease=0, token=0, amount=0, mode=0):
    tail = name + value
    tail += bytes(-len(tail) % 8)
    return struct.pack("<HHIQQHBBHHQQQ", WIRE_REQUEST, 56 + len(tail), 0, session, sequence, op,
                       mode, len(name), len(value), 0, lease, token, amount) + tail


def well_framed_nonsense(rng):
    """Passes the frame's checks; the request or its sender makes no sense."""
    kind = rng.randrange(5)
    if kind == 0:  # an operation that does not exist, or one that only leaders propose
        return frame(request(rng.choice([0, 7, 99, 200, 0x8001, 0x8003]), session=1, sequence=1))
    if kind == 1:  # a TTL out of range
        return frame(request(2, session=1, sequence=1, amount=rng.choice([0, 9, 1 << 62])))
    if kind == 2:  # no session, no lease, no name
        return frame(request(5, session=0, sequence=1))
    if kind == 3:  # pretends to be a node, from another address
        return frame(struct.pack("<HHIQQQ", WIRE_VOTE, 32, 0, 1 << 40, 1 << 40, 1 << 40),
                     source=rng.randrange(1, 4))
    return frame(struct.pack("<HHIQQQ", WIRE_VOTE, 32, 0, 1 << 40, 1 << 40, 1 << 40))


def bad_packet(rng):
    good = frame(request(96))
    kind = rng.randrange(9)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 1472))
    if kind == 1:
        return good[:rng.randrange(0, 47)]
    if kind == 2:
        return good + bytes(8)
    if kind == 3:
        return frame(request(96), version=rng.randrange(2, 256))
    if kind == 4:
        return frame(request(2, session=1, sequence=1, amount=1000), cluster=rng.randrange(1, 1 << 60))
    if kind == 5:
        damaged = bytearray(good)
        damaged[rng.randrange(48, len(damaged))] ^= 1 << rng.randrange(8)
        return bytes(damaged)
    if kind == 6:  # a message longer than its frame
        return frame(struct.pack("<HHI", WIRE_REQUEST, 800, 0) + bytes(48))
    if kind == 7:
        return frame(request(96)) + rng.randbytes(rng.randrange(1473, 4000))
    return well_framed_nonsense(rng)


def main():
    endpoints = [part.rsplit(":", 1) for part in sys.argv[1].split(",")]
    count = int(sys.argv[2])
    rng = random.Random(7)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(count):
        packet = bad_packet(rng)
        for host, port in endpoints:
            out.sendto(packet, (host, int(port)))
    print(f"  {count} bad packets to each of {len(endpoints)} nodes")


main()
