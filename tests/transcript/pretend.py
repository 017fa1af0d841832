#!/usr/bin/env python3
"""Nodes that only answer `conclave status`, with what they are told to say: for contradictions that a
cluster never shows.

    pretend.py CLUSTER,NODE,ROLE,LEADER,TERM,APPLIED,HASH ...

prints the addresses, one per line, and answers until it is ended. Layouts are those of
include/conclave_wire.h.
"""
import select
import socket
import struct
import sys

ROLES = {"follower": 0, "precandidate": 1, "candidate": 2, "leader": 3}
REQUEST, REPLY, STATUS = 32, 33, 96


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def answer(request, said):
    """The frame that answers a status request; None for anything else."""
    head, _, _, session, sequence, op = struct.unpack_from("<HHIQQH", request, 48)
    if head != REQUEST or op != STATUS:
        return None
    cluster, node, role, leader, term, applied, state = said
    status = struct.pack("<QHHBBHQQQQQQQQIIIIQ", cluster, node, leader, role, 0, 3, 0, term, applied,
                         applied, applied, 1, 0, 60000, 0, 0, 0, 0, state)
    reply = struct.pack("<HHIQQHHHHQQQ", REPLY, 56 + len(status), 0, session, sequence, STATUS, 0,
                        len(status), 0, 0, 0, 0)
    start = struct.pack("<IBBHQIHHQ", 0x4C434E43, 1, 0, 48 + len(reply) + len(status), cluster, 0, node,
                        0, 0)
    crc = crc32c(start + bytes(16) + reply + status)
    return start + struct.pack("<I", crc) + bytes(12) + reply + status


def main():
    nodes = {}
    for text in sys.argv[1:]:
        words = text.split(",")
        words[2] = ROLES[words[2]]
        node = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        node.bind(("127.0.0.1", 0))
        nodes[node] = [int(word, 0) if isinstance(word, str) else word for word in words]
        print("127.0.0.1:%d" % node.getsockname()[1], flush=True)
    while True:
        for node in select.select(list(nodes), [], [])[0]:
            request, sender = node.recvfrom(2048)
            frame = answer(request, nodes[node])
            if frame:
                node.sendto(frame, sender)


main()
