# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identify an unsupported file, neither a tar nor in a supported compression, by its first bytes.

Invariant: nothing that begins with a tar header is identified here; each type has a hint that says what to do with the file.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from ..._errors import FlydError, Unsupported
from ..compression.sniffing import Compression, sniff
from ..extent import Extent
from ..refusal import malformed
from ..tar.header import BLOCK, parse_header

_HEAD_BYTES = 66_000  # btrfs keeps its magic at 64 KiB
_COMPRESS = "compress it with gzip, zstd, xz or bzip2, or not at all"
_UNPACK = "store what is in it, or save the image with `docker save` or `skopeo copy`"
_FILE_SYSTEM = "mount it and store a tar of its files, or save the image with `docker save` or `skopeo copy`"
_UPLOAD = "upload the image itself: what is stored came instead of it"
_DECRYPT = "decrypt it before it is stored"
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"070701", "a cpio archive", _UNPACK),
    (0, b"070702", "a cpio archive", _UNPACK),
    (0, b"070707", "a cpio archive", _UNPACK),
    (0, b"\xc7\x71", "a cpio archive", _UNPACK),
    (0, b"!<arch>\n", "an ar archive, such as a Debian package", _UNPACK),
    (0, b"\xed\xab\xee\xdb", "an RPM package", _UNPACK),
    (0, b"MSWIM\0\0\0", "a Windows image (WIM)", _UNPACK),
    (0, b"xar!", "a xar archive", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4", _COMPRESS),
    (0, b"\x02\x21\x4c\x18", "compressed with lz4", _COMPRESS),
    (0, b"LZIP", "compressed with lzip", _COMPRESS),
    (0, b"\x89LZO\0", "compressed with lzop", _COMPRESS),
    (0, b"\x5d\0\0", "compressed with lzma", _COMPRESS),
    (0, b"\x1f\x9d", "compressed with compress", _COMPRESS),
    (0, b"\x1f\xa0", "compressed with pack", _COMPRESS),
    (0, b"\xff\x06\0\0sNaPpY", "compressed with snappy", _COMPRESS),
    (0, b"hsqs", "a squashfs file system", _FILE_SYSTEM),
    (0, b"sqsh", "a squashfs file system", _FILE_SYSTEM),
    (0, b"\x45\x3d\xcd\x28", "a cramfs file system", _FILE_SYSTEM),
    (0, b"-rom1fs-", "a romfs file system", _FILE_SYSTEM),
    (0, b"XFSB", "an XFS file system", _FILE_SYSTEM),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system", _FILE_SYSTEM),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system", _FILE_SYSTEM),
    (65600, b"_BHRfS_M", "a btrfs file system", _FILE_SYSTEM),
    (32769, b"CD001", "an ISO 9660 image", _FILE_SYSTEM),
    (32, b"SIF_MAGIC", "an Apptainer image (SIF)", _FILE_SYSTEM),
    (0, b"QFI\xfb", "a qcow2 disk image", _FILE_SYSTEM),
    (0, b"KDMV", "a VMDK disk image", _FILE_SYSTEM),
    (0, b"vhdxfile", "a VHDX disk image", _FILE_SYSTEM),
    (0, b"conectix", "a VHD disk image", _FILE_SYSTEM),
    (512, b"EFI PART", "a disk image with partitions", _FILE_SYSTEM),
    (510, b"\x55\xaa", "a disk image", _FILE_SYSTEM),
    (0, b"\x7fELF", "a program (ELF)", _UPLOAD),
    (0, b"\0asm", "a WebAssembly module", _UPLOAD),
    (0, b"SQLite format 3", "an SQLite database", _UPLOAD),
    (0, b"%PDF-", "a PDF document", _UPLOAD),
    (0, b"age-encryption.org/", "encrypted with age", _DECRYPT),
    (0, b"-----BEGIN PGP MESSAGE", "encrypted with PGP", _DECRYPT),
    (0, b"Salted__", "encrypted with openssl", _DECRYPT),
)
_TWICE = "compress it once: what is in it is compressed again"
_CHUNKED = re.compile(rb"[0-9a-fA-F]{1,16}(?:;chunk-signature=[0-9a-f]{64})?\r\n")
_CHUNKED_HINT = (
    "the client that uploaded it left its framing in the object: upload it again with another client, or with "
    "request_checksum_calculation: when_required (boto3 from 1.36 on)"
)


class Found(NamedTuple):
    """What it is, what to do, and whether it is an image at all, in a form that is not read."""

    what: str
    hint: str
    is_unread_form: bool


def name(head: bytes, size_bytes: int) -> Found | None:
    """What a file of ``size_bytes`` is that begins with ``head`` (its first 66,000 bytes); None when that is not known, or it is a tar."""
    if not size_bytes:
        return Found("an empty file", _UPLOAD, is_unread_form=False)
    if len(head) >= BLOCK and parse_header(head[:BLOCK]) is not None:
        return None
    for at, magic, what, hint in _MAGIC:
        if head.startswith(magic, at):
            return Found(what, hint, is_unread_form=hint is not _UPLOAD)
    return _named_text(head)


def _named_text(head: bytes) -> Found | None:
    text = head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        hint = "upload the file that it stands for (`git lfs pull` brings it)"
        return Found("a pointer of Git LFS, not the file itself", hint, is_unread_form=False)
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        return Found("an HTML page, such as an error or a login page", _UPLOAD, is_unread_form=False)
    if text.startswith((b"<?xml", b"<error")):
        return Found("an XML document, such as an error of an S3 server", _UPLOAD, is_unread_form=False)
    if text.startswith((b'{"', b"{\n", b"{ ", b"{\r", b"{}", b"[{", b"[]")):
        return Found("a JSON document, such as a manifest without its layers", _UPLOAD, is_unread_form=False)
    if _CHUNKED.match(head):
        return Found("the body of an upload in the framing aws-chunked", _CHUNKED_HINT, is_unread_form=False)
    if _is_text(head[:2048]):
        return Found("a text", _UPLOAD, is_unread_form=False)
    return None


def _is_text(head: bytes) -> bool:
    """Whether ``head`` is printable UTF-8, but for white space and a last character that is not whole."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return text != "" and "".join(text.split()).isprintable()


def check_is_tar(tar: Extent, what: str, *, is_unpacked: bool = False) -> None:
    """Raise an error that names what ``tar``, called ``what``, is instead; nothing is raised where that is not known.

    ``is_unpacked``: it came out of a compression, so another one is one too many.
    """
    head = tar.read(0, _HEAD_BYTES)
    found = name(head, tar.size)
    if is_unpacked and (inner := sniff(head[:BLOCK])) is not Compression.NONE:
        found = Found(f"compressed twice (with {inner.value} inside)", _TWICE, is_unread_form=False)
    if found is not None:
        raise _error(what, found)


def _error(what: str, found: Found) -> FlydError:
    problem = f"{what} is {found.what}, and no tar of an image"
    return Unsupported(problem, hint=found.hint) if found.is_unread_form else malformed(problem, hint=found.hint)
