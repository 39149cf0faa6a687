#!/usr/bin/env python3
"""Restores one disk of a restore point from a repository's folder, with no farshore at hand.

Written from docs/formats/repository.md alone, as a second implementation: it reads the directories of packs, not the index, and
proves everything that it reads. It ends with exit code 1 at the first damage and names the file; what it has written by then is not
the disk, and is left with the ending .incomplete. Python 3.11 with the packages blake3, cryptography, argon2-cffi, zstandard, lz4 and
msgpack.

usage: restore_point.py FOLDER POINT DISK OUT [--passphrase-file FILE]
The passphrase is the file's content, the newline at its end left out.
"""

import argparse
import json
import os
import re
import struct
import sys

BLOCK = 4096
REGION_BLOCKS = 1024
LEAVES_PER_LIST = 2048
MAX_PLAIN = 262_185
DATA, LEAF, LIST, DISK, DIRECTORY, POINT, SLOT = 1, 2, 3, 4, 128, 129, 131
NAMES = {DATA: "chunk", LEAF: "leaf", LIST: "list", DISK: "disk"}
CHUNK_IDS = "farshore 2026-11 dedup domain: chunk ids"

try:
    import argon2.low_level
    import blake3 as blake3_package
    import lz4.block
    import msgpack
    import zstandard
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    sys.exit(f"{error}: install the packages blake3 cryptography argon2-cffi zstandard lz4 msgpack")


def padded_len(length):
    """Padme: as many leading bits as the exponent has bits are kept, the rest is rounded up."""
    exponent = length.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return length + mask & ~mask


class Damage(Exception):
    def __init__(self, file, why):
        super().__init__(f"{file}: {why}")


def blake3(data, **options):
    return blake3_package.blake3(data, **options).digest()


# Keys -----------------------------------------------------------------------------------------------------------------

def file_key(key, file_id):
    return HKDF(SHA256(), 32, salt=file_id, info=b"farshore repository 1").derive(key)


class Seal:
    """Opens records of one file."""

    def __init__(self, file, suite, key, file_id):
        if suite not in (0, 1, 2):
            raise Damage(file, f"its suite {suite} is not known")
        if suite == 0 and key is not None:
            raise Damage(file, "it is not sealed, as everything in this repository is")
        if suite != 0 and key is None:
            raise Damage(file, "it is sealed, and the repository has no key")
        self.cipher = None if suite == 0 else (AESGCM, ChaCha20Poly1305)[suite - 1](file_key(key, file_id))
        self.file = file

    def open(self, kind, number, sealed):
        head = struct.pack("<BI", kind, number)
        if self.cipher is None:
            content, check = sealed[:-16], sealed[-16:]
            if len(sealed) < 16 or blake3(head + content)[:16] != check:
                raise Damage(self.file, f"record {number} of kind {kind} is not what was stored there")
            return content
        try:
            return self.cipher.decrypt(head[1:] + bytes(8), sealed, head[:1])
        except InvalidTag:
            raise Damage(self.file, f"record {number} of kind {kind} is not what was sealed there") from None


def read_slot(path):
    """What opening a slot costs, its path and what it holds, or None when it is none that a reader tries."""
    try:
        with open(path, encoding="utf-8") as file:
            slot = json.load(file)
        memory, passes, lanes = slot["memory"], slot["passes"], slot["lanes"]
        granted = 8 * lanes <= memory <= 1 << 18 and 1 <= passes <= 16 and 1 <= lanes <= 16
        if slot["kdf"] != "argon2id" or not granted:
            raise ValueError("it asks for another kdf or for other costs than are granted")
        salt, sealed = bytes.fromhex(slot["salt"]), bytes.fromhex(slot["sealed"])
        if len(salt) != 32 or len(sealed) != 80:
            raise ValueError("its salt or its sealed key has another length")
        return memory * passes, path, (memory, passes, lanes, salt, sealed)
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"{path} is left out: {error}", file=sys.stderr)
        return None


def open_slot(path, slot, passphrase):
    """Repository key and domain secret, or None when the passphrase does not open this slot."""
    memory, passes, lanes, salt, sealed = slot
    key = argon2.low_level.hash_secret_raw(
        passphrase, salt, time_cost=passes, memory_cost=memory, parallelism=lanes,
        hash_len=32, type=argon2.low_level.Type.ID, version=0x13)
    try:
        plain = Seal(path, 2, key, salt).open(SLOT, 0, sealed)
    except Damage:
        return None
    return plain[:32], plain[32:]


def open_keys(folder, passphrase):
    path = os.path.join(folder, "format.json")
    with open(path, encoding="utf-8") as file:
        header = json.load(file)
    if header["format"] != 1:
        raise Damage(path, f"it is format {header['format']}; this reads format 1")
    if not header["encrypted"]:
        if passphrase is not None:
            raise Damage(path, "a passphrase was given, and it says that the repository is not encrypted")
        return None, bytes.fromhex(header["domain_secret"])
    if passphrase is None:
        sys.exit(f"{folder} is encrypted: give --passphrase-file")
    keys = os.path.join(folder, "keys")
    slots = filter(None, (read_slot(os.path.join(keys, name)) for name in visible(keys)))
    # Those that cost least first, so that one that was put there by somebody else keeps none waiting.
    for _, path, slot in sorted(slots, key=lambda slot: slot[0]):
        opened = open_slot(path, slot, passphrase)
        if opened:
            return opened
    sys.exit("the passphrase opens no key slot")


def visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


# Packs ----------------------------------------------------------------------------------------------------------------

class Repository:
    def __init__(self, folder, passphrase):
        self.folder = folder
        self.key, secret = open_keys(folder, passphrase)
        self.id_key = blake3(secret, derive_key_context=CHUNK_IDS)
        self.zstd = zstandard.ZstdDecompressor()
        self.places = {}
        self.bad_packs = []
        packs = os.path.join(folder, "packs")
        for part in visible(packs):
            for name in visible(os.path.join(packs, part)):
                path = os.path.join(packs, part, name)
                try:
                    self.read_pack(path, name)
                except Damage as damage:
                    # Other packs may hold all that is needed.
                    self.bad_packs.append(str(damage))

    def read_pack(self, path, name):
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length < 96:
                raise Damage(path, "it was cut short")
            head = file.read(64)
            file.seek(length - 32)
            footer = file.read(32)
            count, directory_len, whole = struct.unpack("<IIQ", footer[:16])
            if head[:8] != b"FSPACK01" or blake3(head[:48])[:16] != head[48:]:
                raise Damage(path, "it does not begin as a pack")
            version, suite = struct.unpack("<HB", head[8:11])
            if version > 1:
                raise Damage(path, f"it is a pack of format {version}")
            if head[16:48].hex() != name:
                raise Damage(path, f"it is pack {head[16:48].hex()}")
            if whole != length or directory_len + 96 > length:
                raise Damage(path, "it does not end as a pack")
            file.seek(length - 32 - directory_len)
            directory = file.read(directory_len)
        if blake3(directory + footer[:16])[:16] != footer[16:]:
            raise Damage(path, "it does not end as a pack")
        seal = Seal(path, suite, self.key, head[16:48])
        plain = seal.open(DIRECTORY, count, directory)
        if len(plain) != 41 * count:
            raise Damage(path, "its directory has another length")
        offset = 64
        for number, (record, kind, plain_len, stored) in enumerate(struct.iter_unpack("<32sBII", plain)):
            if plain_len > MAX_PLAIN or not 0 < stored <= MAX_PLAIN + 32:
                raise Damage(path, f"record {number} has no length that a record may have")
            self.places.setdefault(record, []).append((seal, kind, number, offset, stored, plain_len))
            offset += stored
        if offset + directory_len + 32 != length:
            raise Damage(path, "its directory does not add up")

    def record(self, wanted, kind):
        """The plain content of a record, proven, from the first pack that has it whole."""
        last = None
        for place in self.places.get(wanted, []):
            try:
                return self.read_record(wanted, kind, place)
            except Damage as damage:
                last = damage
        if last:
            raise last
        raise Damage(self.folder, "; ".join([f"no pack holds {NAMES[kind]} {wanted.hex()}", *self.bad_packs]))

    def read_record(self, wanted, kind, place):
        seal, found_kind, number, offset, stored, plain_len = place
        if found_kind != kind:
            raise Damage(seal.file, f"record {number} is no {NAMES[kind]}")
        with open(seal.file, "rb") as file:
            file.seek(offset)
            sealed = file.read(stored)
        content = self.unpack(seal.file, seal.open(kind, number, sealed), plain_len)
        suffix = b"" if kind == DATA else b"farshore record " + bytes([kind])
        if blake3(content + suffix, key=self.id_key) != wanted:
            raise Damage(seal.file, f"the content of record {number} has another id")
        return content

    def unpack(self, file, stored, length):
        how, body = stored[:1], stored[1:]
        if how and how[0] & 0x80:
            end = 5 + int.from_bytes(stored[1:5], "little")
            if len(stored) != padded_len(end) or any(stored[end:]):
                raise Damage(file, "a record's padding is not what it should be")
            how, body = bytes([how[0] & 0x7F]), stored[5:end]
        try:
            if how == b"\0":
                content = body
            elif how == b"\1":
                content = self.zstd.decompress(body, max_output_size=length)
            elif how == b"\2":
                content = lz4.block.decompress(body, uncompressed_size=length)
            else:
                raise Damage(file, f"a record is packed in a way that is not known: {how.hex()}")
        except (zstandard.ZstdError, lz4.block.LZ4BlockError) as error:
            raise Damage(file, f"a record does not unpack: {error}") from None
        if len(content) != length:
            raise Damage(file, f"a record unpacks to {len(content)} bytes, not {length}")
        return content

    def point(self, name):
        path = os.path.join(self.folder, "points", name)
        with open(path, "rb") as file:
            data = file.read()
        if len(data) < 80 or data[:8] != b"FSREPO01" or data[11] != POINT or blake3(data[:-32]) != data[-32:]:
            raise Damage(path, "it is not a restore point, or it is damaged")
        version, suite = struct.unpack("<HB", data[8:11])
        if version > 1:
            raise Damage(path, f"it has format {version}")
        plain = Seal(path, suite, self.key, data[16:48]).open(POINT, 0, data[48:-32])
        length = int.from_bytes(plain[:4], "little")
        if length > 4 << 20:
            raise Damage(path, f"its body has {length} bytes")
        point = msgpack.unpackb(self.unpack(path, b"\1" + plain[4:], length))
        if point["point"] != name:
            raise Damage(path, f"it is point {point['point']}")
        return point


# Disks ----------------------------------------------------------------------------------------------------------------

def split_ids(file, data, count, what):
    if len(data) != 32 * count:
        raise Damage(file, f"a {what} has {len(data)} bytes for {count} ids")
    return [data[at:at + 32] for at in range(0, len(data), 32)]


def regions_of(repository, disk):
    """(leaf, digest or None) of each region."""
    record = repository.record(disk["disk"], DISK)
    size, has_checksum = struct.unpack("<QB", record[:9])
    checksum = record[9:41] if has_checksum else None
    if (size, checksum) != (disk["size"], disk["checksum"]):
        raise Damage(repository.folder, f"the record of disk {disk['name']} is of another state of it")
    regions = -(-size // (REGION_BLOCKS * BLOCK))
    lists = split_ids(repository.folder, record[41:], -(-regions // LEAVES_PER_LIST), "disk")
    parts = []
    for at, one in enumerate(lists):
        count = min(LEAVES_PER_LIST, regions - at * LEAVES_PER_LIST)
        parts += split_ids(repository.folder, repository.record(one, LIST), 2 * count, "list")
    return [(leaf, digest if any(digest) else None) for leaf, digest in zip(parts[::2], parts[1::2])]


def extents_of(repository, leaf, blocks):
    """(kind, blocks, id or None) of each extent of a region of so many blocks."""
    record = repository.record(leaf, LEAF)
    count, at, covered = int.from_bytes(record[:4], "little"), 4, 0
    for _ in range(count):
        kind, length = struct.unpack_from("<BH", record, at)
        at += 3
        covered += length
        if kind > 2 or length == 0:
            raise Damage(repository.folder, "a leaf has an extent that makes no sense")
        if kind == 2:
            yield kind, length, record[at:at + 32]
            at += 32
        else:
            yield kind, length, None
    if covered != blocks or at != len(record):
        raise Damage(repository.folder, "a leaf does not cover its region exactly")


def restore(repository, disk, out):
    size = disk["size"]
    checksum = blake3_package.blake3()
    at = 0
    out.truncate(size)
    for region, (leaf, digest) in enumerate(regions_of(repository, disk)):
        found = blake3_package.blake3()
        end = min(size, (region + 1) * REGION_BLOCKS * BLOCK)
        for kind, blocks, chunk in extents_of(repository, leaf, -(-(end - at) // BLOCK)):
            length = min(blocks * BLOCK, end - at)
            if kind == 2:
                content = repository.record(chunk, DATA)
                if len(content) != length:
                    raise Damage(repository.folder, f"chunk {chunk.hex()} has {len(content)} bytes, not {length}")
                out.seek(at)
                out.write(content)
            else:
                # Both read as zeros; this tool sets no space aside.
                content = bytes(length)
            found.update(content)
            at += length
        if digest is not None and found.digest() != digest:
            raise Damage(repository.folder, f"the chunks of region {region} are sound but are not what was read")
        checksum.update(found.digest())
    if disk["checksum"] is not None and checksum.digest() != disk["checksum"]:
        raise Damage(repository.folder, f"the chunks of disk {disk['name']} are sound but are not the disk that was read")
    out.flush()
    os.fsync(out.fileno())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("folder", "point", "disk", "out"):
        parser.add_argument(name)
    parser.add_argument("--passphrase-file")
    given = parser.parse_args()
    passphrase = None
    if given.passphrase_file:
        with open(given.passphrase_file, "rb") as file:
            passphrase = re.sub(rb"\r?\n\Z", b"", file.read())
    try:
        repository = Repository(given.folder, passphrase)
        disks = repository.point(given.point)["disks"]
        disk = next((disk for disk in disks if disk["name"] == given.disk), None)
        if disk is None:
            sys.exit(f"point {given.point} has no disk {given.disk}; it has {', '.join(disk['name'] for disk in disks)}")
        incomplete = given.out + ".incomplete"
        with open(incomplete, "wb") as out:
            restore(repository, disk, out)
        os.rename(incomplete, given.out)
    except (Damage, OSError, ValueError, KeyError, struct.error) as error:
        print(f"restore_point.py: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
