#!/usr/bin/env python3
"""Reads a farshore event log and prints each frame as a line of JSON.

Written from docs/formats/log.md alone, as a second implementation: it checks every crc, the hash chain and
every baseline, and stops at the first damage with exit code 1, naming file, offset and seq. Python 3.11, standard library; sealed segments need the
zstandard package or the zstd command.

usage: read_log.py PATH [--from SEQ] [--quiet]
PATH is a site's data folder, its log folder, or one sealed segment or export.
"""

import argparse
import hashlib
import json
import os
import re
import struct
import subprocess
import sys

SECTOR = 512
SEGMENT_HEADER = 160
GROUP_HEADER = 32
FRAME_HEADER = 64
TRAILER = 120
INDEX_ENTRY = 32


class Damage(Exception):
    def __init__(self, file, offset, seq, what):
        super().__init__(f"{file} at offset {offset}, seq {seq}: {what}")


# crc32c ---------------------------------------------------------------------------------------------------------------

def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    table = CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# BLAKE3 (hash mode, 32 bytes of output) -------------------------------------------------------------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF
MIXES = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def compress(chaining, words, counter, length, flags):
    v = [*chaining, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for turn in range(7):
        for at, (a, b, c, d) in enumerate(MIXES):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = va + vb + words[2 * at] & MASK
            vd ^= va
            vd = (vd >> 16 | vd << 16) & MASK
            vc = vc + vd & MASK
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & MASK
            va = va + vb + words[2 * at + 1] & MASK
            vd ^= va
            vd = (vd >> 8 | vd << 24) & MASK
            vc = vc + vd & MASK
            vb ^= vc
            vb = (vb >> 7 | vb << 25) & MASK
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
        if turn < 6:
            words = [words[at] for at in ORDER]
    return [v[at] ^ v[at + 8] for at in range(8)]


def chunk_output(data, counter):
    """All but the last compression of a chunk, and what the last one needs."""
    chaining = list(IV)
    blocks = [data[at:at + 64] for at in range(0, len(data), 64)] or [b""]
    for at, block in enumerate(blocks):
        words = struct.unpack("<16I", block.ljust(64, b"\0"))
        flags = (CHUNK_START if at == 0 else 0) | (CHUNK_END if at == len(blocks) - 1 else 0)
        if at == len(blocks) - 1:
            return chaining, words, counter, len(block), flags
        chaining = compress(chaining, words, counter, len(block), flags)


def tree_output(data, counter):
    if len(data) <= 1024:
        return chunk_output(data, counter)
    chunks = (len(data) - 1) // 1024
    left = 1 << (chunks.bit_length() - 1)
    pair = compress(*tree_output(data[:left * 1024], counter)) + compress(*tree_output(data[left * 1024:], counter + left))
    return list(IV), pair, 0, 64, PARENT


def blake3(data):
    chaining, words, _, length, flags = tree_output(data, 0)
    # The root has counter 0 in its first 64 bytes of output.
    return struct.pack("<8I", *compress(chaining, words, 0, length, flags | ROOT))


# Ed25519, verification only (RFC 8032, section 5.1) --------------------------------------------------------------------

PRIME = 2**255 - 19
ORDER_OF_BASE = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
ROOT_OF_MINUS_1 = pow(2, (PRIME - 1) // 4, PRIME)


def point_add(one, two):
    a = (one[1] - one[0]) * (two[1] - two[0]) % PRIME
    b = (one[1] + one[0]) * (two[1] + two[0]) % PRIME
    c = 2 * one[3] * two[3] * CURVE_D % PRIME
    d = 2 * one[2] * two[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def point_times(factor, point):
    result = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        factor >>= 1
    return result


def point_of(raw):
    """The point that 32 bytes stand for; none when there is no such point."""
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= PRIME:
        return None
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT_OF_MINUS_1 % PRIME
    if (x * x - square) % PRIME or x == 0 and sign:
        return None
    if x & 1 != sign:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


BASE_POINT = point_of((4 * pow(5, -1, PRIME) % PRIME).to_bytes(32, "little"))


def has_signed(key, message, signature):
    point, commitment = point_of(key), point_of(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or scalar >= ORDER_OF_BASE:
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER_OF_BASE
    left = point_times(scalar, BASE_POINT)
    right = point_add(commitment, point_times(challenge, point))
    return not ((left[0] * right[2] - right[0] * left[2]) % PRIME or (left[1] * right[2] - right[1] * left[2]) % PRIME)


# MessagePack ----------------------------------------------------------------------------------------------------------

class Blob(bytes):
    """A bin value, so that it can be told from text."""


def unpack(data):
    value, end = unpack_at(data, 0, 0)
    if end != len(data):
        raise ValueError("bytes after the value")
    return value


def unpack_at(data, at, depth):
    if depth > 128:
        raise ValueError("nested too deeply")
    if at >= len(data):
        raise ValueError("it ends in the middle of a value")
    head = data[at]
    at += 1

    def number(code, size):
        if at + size > len(data):
            raise ValueError("it ends in the middle of a number")
        return struct.unpack_from(">" + code, data, at)[0], at + size

    def raw(start, size):
        if start + size > len(data):
            raise ValueError("it ends in the middle of a value")
        return data[start:start + size], start + size

    def items(start, count):
        out = []
        for _ in range(count):
            item, start = unpack_at(data, start, depth + 1)
            out.append(item)
        return out, start

    def mapping(start, count):
        flat, start = items(start, 2 * count)
        keys = [key if isinstance(key, str) else json.dumps(plain(key)) for key in flat[::2]]
        return dict(zip(keys, flat[1::2])), start

    if head <= 0x7F:
        return head, at
    if head >= 0xE0:
        return head - 256, at
    if head <= 0x8F:
        return mapping(at, head & 15)
    if head <= 0x9F:
        return items(at, head & 15)
    if head <= 0xBF:
        text, at = raw(at, head & 31)
        return text.decode(), at
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    numbers = {0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q", 0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q"}
    if head in numbers:
        return number(numbers[head], struct.calcsize(numbers[head]))
    sized = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H", 0xDD: "I", 0xDE: "H", 0xDF: "I"}
    if head not in sized:
        raise ValueError(f"a type that is not used here: {head:#x}")
    count, at = number(sized[head], struct.calcsize(sized[head]))
    if head <= 0xC6:
        value, at = raw(at, count)
        return Blob(value), at
    if head <= 0xDB:
        value, at = raw(at, count)
        return value.decode(), at
    return items(at, count) if head <= 0xDD else mapping(at, count)


def plain(value):
    """Bytes as hexadecimal, so that JSON can hold them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


# Frames ---------------------------------------------------------------------------------------------------------------

class Chain:
    """Which frame is next, and which hash it must name."""

    def __init__(self, header):
        self.site = blake3(header["site"].encode())[:16]
        self.lineage = header["lineage"]
        self.next = header["first"]
        self.previous = blake3(self.lineage) if self.next == 1 else header["previous"]


def frame_header(data, at, limit):
    """Lengths of the sections and of the whole frame; None when it is not a frame header."""
    raw = data[at:min(at + FRAME_HEADER, limit)]
    if len(raw) < FRAME_HEADER or raw[:4] != b"FSF1" or struct.unpack_from("<I", raw, 60)[0] != crc32c(raw[:60]):
        return None
    schema, flags, seq = struct.unpack_from("<HHQ", raw, 4)
    lens = struct.unpack_from("<3I", raw, 48)
    if flags > 1 or max(lens) > 256 * 1024:
        return None
    length = FRAME_HEADER + sum(lens) + (32 if flags else 0) + 32 + 4
    return {"schema": schema, "flags": flags, "seq": seq, "lens": lens, "length": length,
            "lineage": raw[16:32], "site": raw[32:48]}


def read_frame(data, at, limit, chain, fail):
    """The frame at `at`, checked, as what is printed, and where it ends; None when it cannot be read."""
    header = frame_header(data, at, limit)
    if header is None or at + header["length"] > limit or at + header["length"] > len(data):
        return None
    frame = data[at:at + header["length"]]
    if struct.unpack_from("<I", frame, len(frame) - 4)[0] != crc32c(frame[FRAME_HEADER:-4]):
        return None
    if header["site"] != chain.site:
        fail("it belongs to another site")
    if header["lineage"] != chain.lineage:
        fail(f"its lineage is {header['lineage'].hex()} where {chain.lineage.hex()} is expected")
    if header["seq"] != chain.next:
        fail(f"seq {header['seq']} stands where {chain.next} is next")
    if frame[-36:-4] != chain.previous:
        fail("the hash chain is broken: it does not name the frame before it")
    place = FRAME_HEADER
    sections = []
    for length in header["lens"]:
        try:
            sections.append(unpack(frame[place:place + length]))
        except (ValueError, UnicodeDecodeError) as error:
            fail(f"a section cannot be decoded: {error}")
        place += length
    events = sections[1]
    if isinstance(events, dict) and isinstance(events.get("events"), bytes):
        try:
            events["events"] = unpack(events["events"])
        except (ValueError, UnicodeDecodeError) as error:
            fail(f"the events cannot be decoded: {error}")
    chain.next += 1
    chain.previous = blake3(frame)
    shown = {"seq": header["seq"], "schema": header["schema"], "lineage": header["lineage"].hex(), "hash": chain.previous.hex(),
             "previous": frame[-36:-4].hex(), "state_hash": frame[place:place + 32].hex() if header["flags"] else None,
             "input": plain(sections[0]), "events": plain(events), "sends": plain(sections[2])}
    return shown, at + header["length"]


# Segments -------------------------------------------------------------------------------------------------------------

def segment_header(file, data, first):
    def fail(what):
        raise Damage(file, 0, first, f"the segment header is damaged: {what}")

    if len(data) < SEGMENT_HEADER:
        fail("the file is shorter than one")
    if data[:8] != b"FSLOGSEG":
        fail("its first eight bytes are not FSLOGSEG")
    if struct.unpack_from("<I", data, 156)[0] != crc32c(data[:156]):
        fail("its crc32c does not match")
    version, form, begins, name_len = struct.unpack_from("<HBBB", data, 8)
    if version != 1 or form not in (1, 2) or begins > 1 or name_len > 64:
        fail("a value that this reader does not know")
    header = {"form": form, "begins": begins == 1, "lineage": data[16:32], "first": struct.unpack_from("<Q", data, 32)[0],
              "previous": data[40:72], "site": data[72:72 + name_len].decode()}
    if first is not None and header["first"] != first:
        raise Damage(file, 32, first, "the file's name and its header disagree on the first seq")
    return header


def plain_segment(file, data, header, is_last, note):
    """Gives the frames of a plain segment, then its chain."""
    chain = Chain(header)
    at = SEGMENT_HEADER
    while True:
        def fail(what, offset=None):
            raise Damage(file, at if offset is None else offset, chain.next, what)

        def torn(place, after, what):
            """Says so, or raises when a later group proves that this was durable."""
            later = -(-after // 32) * 32
            while later + GROUP_HEADER <= len(data):
                group = group_header(data, later)
                if group and group["first"] > chain.next:
                    fail(f"{what}, and a later group follows", place)
                later += 32
            if not is_last:
                fail(f"{what}, and a later segment follows", place)
            note(f"{file} at offset {place}, seq {chain.next}: the tail is torn ({what}); the log ends before it")

        rest = data[at:at + GROUP_HEADER]
        if not any(rest) and not any(data[at:]):
            break
        if len(rest) < GROUP_HEADER:
            torn(at, at, "a group header is cut short")
            break
        if not any(rest):
            torn(at, at, "a group header is all zeros")
            break
        group = group_header(data, at)
        if group is None:
            fail("the group header is damaged")
        if group["first"] != chain.next:
            fail(f"the group begins with seq {group['first']} where {chain.next} is next")
        frames_end = at + GROUP_HEADER + group["len"]
        end = (frames_end + 4 + 31) // 32 * 32

        def missing(start, stop):
            if stop > group["at"] + len(data[group["at"]:end].rstrip(b"\0")):
                return True
            for sector in range(start // SECTOR, (stop - 1) // SECTOR + 1):
                part = data[max(sector * SECTOR, group["at"]):min((sector + 1) * SECTOR, end)]
                if not any(part):
                    return True
            return False

        place = at + GROUP_HEADER
        whole = True
        for _ in range(group["frames"]):
            read = read_frame(data, place, frames_end, chain, lambda what: fail(what, place))
            if read is None:
                known = frame_header(data, place, min(frames_end, len(data)))
                need = place + (known["length"] if known else FRAME_HEADER)
                if need > frames_end or not missing(place, need):
                    fail("the frame is damaged: its crc32c does not match", place)
                torn(place, end, "a frame was not written in whole")
                whole = False
                break
            shown, place = read
            yield shown
        if not whole:
            break
        if place != frames_end:
            fail("the group's frames are shorter than it says", place)
        padding = data[place:end]
        if len(padding) < end - place or padding.strip(b"\xff"):
            if not missing(place, end):
                fail("the padding after a group is damaged", place)
            torn(place, end, "the padding was not written in whole")
            break
        at = end
    yield chain


def group_header(data, at):
    raw = data[at:at + GROUP_HEADER]
    if len(raw) < GROUP_HEADER or raw[:4] != b"FSG1" or struct.unpack_from("<I", raw, 28)[0] != crc32c(raw[:28]):
        return None
    length, first, offset, frames = struct.unpack_from("<IQQI", raw, 4)
    if offset != at or frames == 0 or length > 8 << 20:
        return None
    return {"len": length, "first": first, "frames": frames, "at": at}


def sealed_segment(file, data, header):
    """Gives the frames of a sealed segment, then its chain."""
    first = header["first"]
    at = len(data) - TRAILER
    if at < SEGMENT_HEADER:
        raise Damage(file, len(data), first, "the file is too short to have a trailer")
    trailer = data[at:]
    if trailer[:8] != b"FSSEALED" or struct.unpack_from("<I", trailer, 116)[0] != crc32c(trailer[:116]):
        raise Damage(file, at, first, "the trailer of the sealed segment is damaged")
    version, count, index_at, first_seq, last = struct.unpack_from("<IIQQQ", trailer, 8)
    if version != 1 or first_seq != first or index_at + count * INDEX_ENTRY != at:
        raise Damage(file, at, first, "the trailer of the sealed segment does not fit the file")
    index = data[index_at:at]
    if struct.unpack_from("<I", trailer, 112)[0] != crc32c(index):
        raise Damage(file, index_at, f"{first}..={last}", "the index is damaged: its crc32c does not match")
    chain = Chain(header)
    next_at = SEGMENT_HEADER
    for entry in range(count):
        offset, length, raw_len, block_first, frames, crc = struct.unpack_from("<QIIQII", index, entry * INDEX_ENTRY)
        seqs = f"{block_first}..={block_first + frames - 1}"

        def fail(what):
            raise Damage(file, offset, seqs, what)

        if offset != next_at or block_first != chain.next:
            fail("the blocks do not follow one another")
        next_at += length
        packed = data[offset:offset + length]
        if crc32c(packed) != crc:
            fail("a block is damaged: its crc32c does not match")
        block = unzstd(packed, raw_len)
        if block is None or len(block) != raw_len:
            fail("a block does not unpack to the length that the index names")
        place = 0
        for _ in range(frames):
            read = read_frame(block, place, len(block), chain, fail)
            if read is None:
                fail("a frame is damaged: its crc32c does not match")
            shown, place = read
            yield shown
        if place != len(block):
            fail("the block holds more than its frames")
    if next_at != index_at or chain.next != last + 1 or chain.previous != trailer[40:72]:
        raise Damage(file, index_at, f"{first}..={last}", "the trailer and the blocks do not fit")
    if blake3(data[:at]) != trailer[80:112]:
        raise Damage(file, 0, f"{first}..={last}", "the hash of the sealed file does not match")
    yield chain


def unzstd(packed, raw_len):
    try:
        import zstandard
        try:
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=raw_len)
        except zstandard.ZstdError:
            return None
    except ImportError:
        pass
    try:
        done = subprocess.run(["zstd", "-d", "-q", "-c"], input=packed, capture_output=True, check=False)
    except FileNotFoundError:
        sys.exit("sealed segments are compressed with zstd: install the Python package zstandard, or the zstd command")
    return done.stdout if done.returncode == 0 else None


# The log --------------------------------------------------------------------------------------------------------------

def find_segments(path, note):
    """(first seq, file) of each segment, the sealed form where there are both."""
    log = os.path.join(path, "log") if os.path.isdir(os.path.join(path, "log")) else path
    found = {}
    for name in sorted(os.listdir(log)):
        match = re.fullmatch(r"seg-(\d{20})\.(log|sealed)", name)
        if match:
            first = int(match[1])
            if match[2] == "sealed" or first not in found:
                found[first] = os.path.join(log, name)
    if not found:
        sys.exit(f"there is no event log in {path}")
    keys = trusted_keys(os.path.join(os.path.dirname(os.path.abspath(log)), "site-keys"))
    baselines = {}
    for name in sorted(os.listdir(log)):
        if re.fullmatch(r"base-\d{20}", name):
            file, seq = os.path.join(log, name), int(name[5:])
            head, site, signer = baseline(file, seq)
            if signer in keys:
                baselines[seq] = (file, head, site)
            else:
                note(f"{file}: not used, its signer is not listed in site-keys")
    return sorted(found.items()), baselines


def trusted_keys(path):
    try:
        with open(path, encoding="ascii") as lines:
            return {bytes.fromhex(line.strip()) for line in lines if re.fullmatch(r"[0-9a-f]{64}\s*", line)}
    except FileNotFoundError:
        return set()


def baseline(file, seq):
    """(frame hash, site tag, signer) of a baseline."""
    with open(file, "rb") as handle:
        data = handle.read()
    body, rest = data[:-128], data[-128:]
    if len(body) < 88 or body[:8] != b"FSBASE01":
        raise Damage(file, 0, seq, "it is no baseline")
    digest, signer, signature = rest[:32], rest[32:64], rest[64:]
    if blake3(body) != digest:
        raise Damage(file, len(body), seq, "the baseline's hash does not match")
    if not has_signed(signer, b"farshore baseline 1" + digest, signature):
        raise Damage(file, len(body) + 32, seq, "the baseline's signature does not match")
    named, count = struct.unpack_from("<Q", body, 24)[0], struct.unpack_from("<Q", body, 80)[0]
    if named != seq:
        raise Damage(file, 24, seq, "the file's name and the baseline disagree on the seq")
    at, parts = 88, 0
    while at < len(body):
        if at + 8 > len(body) or at + 8 + struct.unpack_from("<Q", body, at)[0] > len(body):
            raise Damage(file, at, seq, "an entry of the baseline is cut short")
        at, parts = at + 8 + struct.unpack_from("<Q", body, at)[0], parts + 1
    if parts != 2 * count:
        raise Damage(file, 80, seq, "the baseline holds another number of entries than it says")
    return body[32:64], body[64:80], signer


def begins(file, header, baselines):
    """Whether a log may begin with this segment; if not, the first frame that is missed."""
    if header["first"] == 1:
        return
    for seq, (_, head, _) in baselines.items():
        if seq >= header["first"] or seq + 1 == header["first"] and head == header["previous"]:
            return
    missed = max(baselines, default=0) + 1
    raise Damage(file, 0, missed, f"frames from seq {missed} on are missing before this file")


def frames(path, note):
    if os.path.isfile(path):
        segments, baselines, single = [(None, path)], {}, True
    else:
        segments, baselines = find_segments(path, note)
        single = False
    before = None
    site = None
    for at, (first, file) in enumerate(segments):
        with open(file, "rb") as handle:
            data = handle.read()
        header = segment_header(file, data, first)
        if header["form"] != (2 if file.endswith(".sealed") or single else 1):
            raise Damage(file, 10, header["first"], "the file's name and its form disagree")
        if before is None and not single:
            begins(file, header, baselines)
        if before is not None:
            if header["first"] != before.next:
                raise Damage(file, 0, before.next, f"it begins with seq {header['first']} where {before.next} is next")
            if header["previous"] != before.previous or header["site"] != site:
                raise Damage(file, 0, before.next, "the hash chain is broken between two segments")
            if (header["lineage"] != before.lineage) != header["begins"]:
                raise Damage(file, 0, before.next, "its lineage is not the one expected")
        site = header["site"]
        read = sealed_segment(file, data, header) if header["form"] == 2 else \
            plain_segment(file, data, header, at + 1 == len(segments), note)
        for item in read:
            if isinstance(item, Chain):
                before = item
                continue
            if item["seq"] in baselines:
                held, head, tag = baselines[item["seq"]]
                if head.hex() != item["hash"] or tag != blake3(site.encode())[:16]:
                    raise Damage(held, 32, item["seq"], "the baseline is of another history")
            yield item


def main():
    parser = argparse.ArgumentParser(description="Checks a farshore event log and prints its frames as lines of JSON.")
    parser.add_argument("path", help="a site's data folder, its log folder, or a sealed segment or export")
    parser.add_argument("--from", dest="start", type=int, default=1, help="print from this seq on (all is checked)")
    parser.add_argument("--quiet", action="store_true", help="check only")
    args = parser.parse_args()
    torn = []

    def note(text):
        torn.append(text)
        print(text, file=sys.stderr)

    try:
        count = 0
        for frame in frames(args.path, note):
            count += 1
            if not args.quiet and frame["seq"] >= args.start:
                print(json.dumps(frame, ensure_ascii=False, separators=(",", ":")))
        if args.quiet:
            print(json.dumps({"frames": count, "torn": torn}))
    except Damage as damage:
        sys.stdout.flush()
        print(f"damaged: {damage}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # A torn tail is what a crash leaves, yet a reader has to be told that the last byte was not read.
    return 3 if torn else 0


if __name__ == "__main__":
    sys.exit(main())
