"""Attacks by compression: a MiB that becomes hundreds. On a compacted topic the records must be looked at."""

import gzip
import struct

import wire
from checks import check, equal, expect
from hostile_batches import CORRUPT_MESSAGE, INVALID_RECORD, MESSAGE_TOO_LARGE, UNSUPPORTED_COMPRESSION, refused
from wire import i32

MIB = 1 << 20
ALLOWED = (INVALID_RECORD, CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, UNSUPPORTED_COMPRESSION, None)


def gzip_bomb(size):
    return gzip.compress(b"\0" * size, 9)


def lz4_bomb(blocks):
    """An LZ4 frame of `blocks` blocks of 4 MiB, each one long match; no content checksum."""
    run = 4 * MIB - 1 - 5 - 5
    lengths, left = bytearray(), run - 15 - 4
    while left >= 255:
        lengths.append(255)
        left -= 255
    lengths.append(left)
    block = b"\x1f" + b"\0" + b"\x01\x00" + bytes(lengths) + b"\x50" + b"\0" * 5
    descriptor = b"\x60\x70"
    frame = b"\x04\x22\x4d\x18" + descriptor + bytes([xxh32(descriptor) >> 8 & 0xFF])
    return frame + (struct.pack("<I", len(block)) + block) * blocks + b"\0" * 4


def zstd_bomb(blocks, window_log=21):
    """A zstd frame of repeat blocks of 128 KiB each."""
    frame = bytes.fromhex("28b52ffd") + b"\0" + bytes([(window_log - 10) << 3])
    for number in range(blocks):
        head = (1 if number == blocks - 1 else 0) | 1 << 1 | (128 * 1024) << 3
        frame += struct.pack("<I", head)[:3] + b"\0"
    return frame


def snappy_claim(size):
    return wire.uvarint(size) + b"\0a" + b"\xfe\x01\x00" * 100


def xxh32(data, seed=0):
    """XXH32 of fewer than 16 bytes, for the LZ4 frame's header."""
    p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
    mask = 0xFFFFFFFF
    h = (seed + p5 + len(data)) & mask
    while len(data) >= 4:
        h = (h + struct.unpack("<I", data[:4])[0] * p3) & mask
        h = ((h << 17 | h >> 15) & mask) * p4 & mask
        data = data[4:]
    for byte in data:
        h = (h + byte * p5) & mask
        h = ((h << 11 | h >> 21) & mask) * p1 & mask
    h = (h ^ h >> 15) * p2 & mask
    h = (h ^ h >> 13) * p3 & mask
    return h ^ h >> 16


def explode(victim, what, codec, payload):
    topic = victim.topic(cleanup_policy="compact")
    records = wire.batch(attributes=codec, payload=payload, count=1)
    expect(len(records) < 1_048_588, f"{what} is too large to be sent: {len(records)}")
    refused(victim, topic, what, records, ALLOWED)


@check(seconds=90)
def gzip_of_512_mib(victim):
    explode(victim, "gzip, 512 MiB", 1, gzip_bomb(512 * MIB))


@check(seconds=90)
def lz4_of_128_mib(victim):
    explode(victim, "lz4, 128 MiB", 3, lz4_bomb(32))


@check(seconds=90)
def zstd_of_1_gib(victim):
    explode(victim, "zstd, 1 GiB", 4, zstd_bomb(8192))


@check(seconds=90)
def zstd_with_a_window_of_2_gib(victim):
    explode(victim, "zstd with a window of 2 GiB", 4, zstd_bomb(64, 31))


@check(seconds=90)
def snappy_that_claims_gib(victim):
    for what, payload in (
        ("snappy that claims 4 GiB", snappy_claim(2**32 - 1)),
        ("snappy that claims 1 GiB", snappy_claim(2**30)),
        ("xerial snappy with a block of 2 GiB", b"\x82SNAPPY\0" + i32(1) + i32(1) + i32(2**31 - 1) + b"\0" * 50),
    ):
        topic = victim.topic(what.replace(" ", "-"), cleanup_policy="compact")
        refused(victim, topic, what, wire.batch(attributes=2, payload=payload, count=1), ALLOWED)


@check(seconds=60)
def honest_zeros_compress_well(victim):
    """30 MiB of zeros in one record, in 30 KiB of gzip: far beyond any ratio rule, and yet legal."""
    topic = victim.topic(cleanup_policy="compact")
    payload = gzip.compress(wire.record(0, b"k", b"\0" * (30 * MIB)), 9)
    equal(victim.produce(topic, wire.batch(attributes=1, payload=payload, count=1)), (0, 0), "an honest large record")
