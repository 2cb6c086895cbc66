"""The zip archive around a PyTorch checkpoint: where its members lie, without reading them.

The layout is that of PKWARE's APPNOTE.TXT 6.3.3: members one after the other, each behind a local header; a central
directory that lists them; and a record at the end that says where the directory is. Only what ``torch.save`` and plain
repacking write is accepted: one disk, nothing after the end, a directory without holes, members that do not overlap, no
name twice. What a lenient reader could understand in two ways is refused, for torch might read it the other way.

The data of a member begin behind its local header, whose length only the local header itself tells. Over the Hub that
would be a request for each tensor. torch aligns data to 64 bytes and leaves no hole behind them, so that their
beginning follows from the directory; a few headers, drawn anew each time, are read to see that this holds.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.errors import UnreadableCheckpoint

if TYPE_CHECKING:
    from lineage_plugin.checkpoint.source import Source

__all__ = ["Archive", "Member", "data_starts", "read_archive", "read_member"]

_TAIL = 64 << 10
"""Bytes of the end of a file that are read first; the directory of 900 storages fits."""
_MAX_DIRECTORY = 32 << 20
_MAX_MEMBERS = 1 << 17
_SMALL = 128 << 10
"""Files of the Hub up to this size are read whole: that is one request."""
_LOOKED_AT = 4
"""Local headers of storages that are read over the Hub, at most, to see that the directory tells the truth."""
_MOST_LOOKED_AT = 256
"""The same for an archive that torch has not written, where nothing can be told without."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTORS = (16, 24, 0)
"""Bytes behind the data of a member: sizes of 32 bits, of 64 bits, none."""
_LARGEST_GAP = 0xFFFF + 24
"""Most bytes of a member that are neither header nor data: an extra field and a descriptor."""
_ENCRYPTED = 0x2041
_SATURATED = 0xFFFFFFFF
_REMEDY = "Get the file again, or save it again with torch.save."


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive.

    Attributes:
        name: Its name inside the one folder that every archive of torch has.
        header: Position of its local header.
        size: Bytes of data.
        stop: Position of the next member, or of the directory.
        stored: Whether the data are neither compressed nor encrypted.
        full_name: Its name, as it is stored.
    """

    name: str
    header: int
    size: int
    stop: int
    stored: bool
    full_name: bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """The directory of an archive.

    Attributes:
        file: Name of the file inside the model.
        where: The file, for messages.
        members: The members by their names inside the archive's folder; folders are left out.
        directory: Position of the directory.
    """

    file: str
    where: str
    members: Mapping[str, Member]
    directory: int


def read_archive(source: Source, file: str, *, where: str) -> Archive:
    """Read the directory of an archive.

    Args:
        source: The place.
        file: Name of the file, of which the first bytes have been read.
        where: The file, for messages.

    Raises:
        UnreadableCheckpoint: When it is no archive, damaged, or ambiguous.
        HubError: When the Hub does not deliver.
    """
    total = source.files[file].size
    whole = not source.local and total <= _SMALL
    begin = 0 if whole else max(0, total - _TAIL)
    tail = source.bytes(file, begin, total)
    if begin + len(tail) != total:
        raise UnreadableCheckpoint(where, "the file changed while it was read", "Run again when it is complete.")
    start, stop, count = _end(tail, begin, where)
    if start < begin:
        tail = source.bytes(file, start, begin) + tail
        begin = start
    elif not source.local:
        # What came along with the directory is tensor data.
        source.ledger.spend(0, start - begin)
    members = _members(tail[start - begin : stop - begin], start, count, where)
    return Archive(file, where, MappingProxyType(members), start)


def _broken(where: str, problem: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(where, problem, _REMEDY)


def _end(tail: bytes, begin: int, where: str) -> tuple[int, int, int]:
    """Return where the directory begins and ends and how many members it lists."""
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06":
        raise _broken(where, "the zip archive is truncated, or goes on behind its end")
    _, disk, first, here, count, size, start, comment = _END.unpack_from(tail, at)
    stop = begin + at
    short = (here, count, size, start)
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size : at - _LOCATOR.size + 4] == b"PK\x06\x07":
        _, disk64, place, disks = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        stop = begin + at - _LOCATOR.size - _END64.size
        if place != stop or place < begin or disk64 or disks > 1 or tail[place - begin :][:4] != b"PK\x06\x06":
            raise _broken(where, "the end of the zip archive contradicts itself")
        _, record, _, _, _, _, here, count, size, start = _END64.unpack_from(tail, place - begin)
        exact = all(a in (b, 0xFFFF, _SATURATED) for a, b in zip(short, (here, count, size, start), strict=True))
        if record != _END64.size - 12 or not exact:
            raise _broken(where, "the end of the zip archive contradicts itself")
    if disk or first or comment or here != count or start + size != stop:
        raise _broken(where, "the end of the zip archive contradicts itself")
    if size > _MAX_DIRECTORY or count > _MAX_MEMBERS:
        raise _broken(where, f"a directory of {count} members in {size} bytes is larger than any real one")
    return start, stop, count


def _members(directory: bytes, end: int, count: int, where: str) -> dict[str, Member]:
    """Parse the directory and check that the members can lie where it says."""
    entries: list[tuple[int, int, bool, bytes]] = []
    at = 0
    for _ in range(count):
        if directory[at : at + 4] != b"PK\x01\x02" or at + _ENTRY.size > len(directory):
            raise _broken(where, "the directory of the zip archive is damaged")
        fields = _ENTRY.unpack_from(directory, at)
        flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
        n_name, n_extra, n_comment, disk, header = fields[10], fields[11], fields[12], fields[13], fields[16]
        at += _ENTRY.size
        raw, extra = directory[at : at + n_name], directory[at + n_name : at + n_name + n_extra]
        at += n_name + n_extra + n_comment
        size, packed, header = _wide(extra, size, packed, header, where)
        if disk or len(raw) != n_name or at > len(directory):
            raise _broken(where, "the directory of the zip archive is damaged")
        stored = method == 0 and not flags & _ENCRYPTED
        if stored and size != packed:
            raise _broken(where, "the directory of the zip archive contradicts itself")
        entries.append((header, packed, stored, raw))
    if at != len(directory):
        raise _broken(where, "the directory of the zip archive is damaged")
    entries.sort()
    members: dict[str, Member] = {}
    folders: set[str] = set()
    seen: set[str] = set()
    for place, (header, size, stored, raw) in enumerate(entries):
        stop = entries[place + 1][0] if place + 1 < count else end
        if header + _LOCAL.size + len(raw) + size > stop or (place == 0 and header != 0):
            raise _broken(where, "members of the zip archive overlap, or lie outside the file")
        folder, name = _split(raw, where)
        # torch finds members without regard to case.
        if name.lower() in seen:
            raise _broken(where, f"the zip archive holds '{shown(name, 80)}' twice")
        seen.add(name.lower())
        folders.add(folder)
        if name and not name.endswith("/"):
            members[name] = Member(name, header, size, stop, stored, raw)
    if len(folders) > 1:
        raise _broken(where, "the members of the zip archive lie in several folders, those of a checkpoint in one")
    return members


def _wide(extra: bytes, size: int, packed: int, header: int, where: str) -> tuple[int, int, int]:
    """Return sizes and position, those that do not fit 32 bits from the field that holds them instead."""
    if _SATURATED not in (size, packed, header):
        return size, packed, header
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 1:
            values = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            try:
                size, packed, header = (next(values) if v == _SATURATED else v for v in (size, packed, header))
            except (StopIteration, RuntimeError):
                break
            return size, packed, header
    raise _broken(where, "the directory of the zip archive is damaged")


def _split(raw: bytes, where: str) -> tuple[str, str]:
    try:
        folder, slash, name = raw.decode("utf-8").partition("/")
    except UnicodeDecodeError:
        folder = slash = name = ""
    if not slash or not is_printable_name(folder + name):
        raise _broken(where, f"'{shown(raw.decode('utf-8', 'replace'), 80)}' is no name of a member of a checkpoint")
    return folder, name


def read_member(source: Source, archive: Archive, name: str, limit: int) -> bytes | None:
    """Return the data of a small member, None when there is none of that name.

    Args:
        source: The place.
        archive: The archive.
        name: The member.
        limit: Most bytes.

    Raises:
        UnreadableCheckpoint: When it is larger, compressed, or not where the directory says.
        HubError: When the Hub does not deliver.
    """
    member = archive.members.get(name)
    if member is None:
        return None
    if member.size > limit:
        raise _broken(archive.where, f"'{shown(name, 80)}' has {member.size} bytes, over the limit of {limit}")
    _check(archive, member)
    raw = source.bytes(archive.file, member.header, member.stop)
    start = _start(archive, member, raw) - member.header
    return raw[start : start + member.size]


def data_starts(
    source: Source, archive: Archive, names: Iterable[str], alignment: int, files: int = 1
) -> dict[str, int]:
    """Return where the data of members begin.

    On this machine every local header is read. Over the Hub see the beginning of this module.

    Args:
        source: The place.
        archive: The archive.
        names: The members; they exist.
        alignment: Bytes that torch has aligned data to; 1 when that is not known.
        files: How many files the checkpoint has; of more files fewer headers are looked at in each.

    Raises:
        UnreadableCheckpoint: When a member is compressed, or not where the directory says.
        HubError: When the Hub does not deliver.
    """
    starts: dict[str, int] = {}
    guesses: dict[str, int] = {}
    for name in names:
        member = archive.members[name]
        _check(archive, member)
        guess = None if source.local else _guess(member, alignment)
        if guess is not None:
            guesses[name] = guess
        elif len(starts) >= _MOST_LOOKED_AT and not source.local:
            raise UnreadableCheckpoint(
                archive.where,
                "the archive was not written by torch and has too many members to read it over the Hub",
                "Download it and give the file.",
            )
        else:
            starts[name] = _looked_up(source, archive, member)
    # Drawn anew each time: whoever moves the data of a share s of the tensors is found out with 1 - (1 - s)^4.
    count = min(len(guesses), max(1, _LOOKED_AT // files))
    for name in random.SystemRandom().sample(sorted(guesses), count):
        if _looked_up(source, archive, archive.members[name]) != guesses[name]:
            raise _broken(archive.where, f"the data of '{shown(name, 80)}' lie elsewhere than torch puts them")
    return starts | guesses


def _check(archive: Archive, member: Member) -> None:
    if not member.stored:
        problem = f"'{shown(member.name, 80)}' is compressed in the archive, which torch.save never does"
        raise _broken(archive.where, problem)
    if member.stop - member.header - _LOCAL.size - len(member.full_name) - member.size > _LARGEST_GAP:
        raise _broken(archive.where, f"bytes around '{shown(member.name, 80)}' belong to nothing")


def _guess(member: Member, alignment: int) -> int | None:
    """Return the only aligned beginning behind which the data fill the member, None when there are several or none."""
    if alignment <= 8:
        return None
    least = member.header + _LOCAL.size + len(member.full_name)
    found = {
        start
        for behind in (_DESCRIPTORS if member.size else (0,))
        if (start := member.stop - behind - member.size) % alignment == 0 and least <= start
    }
    return found.pop() if len(found) == 1 else None


def _looked_up(source: Source, archive: Archive, member: Member) -> int:
    stop = min(member.stop, member.header + _LOCAL.size + len(member.full_name))
    return _start(archive, member, source.bytes(archive.file, member.header, stop))


def _start(archive: Archive, member: Member, raw: bytes) -> int:
    """Return where the data begin, told by the local header at the beginning of ``raw``."""
    if len(raw) < _LOCAL.size + len(member.full_name) or raw[:4] != b"PK\x03\x04":
        raise _broken(archive.where, f"'{shown(member.name, 80)}' is not where the directory of the archive says")
    _, _, flags, method, _, _, _, _, _, n_name, n_extra = _LOCAL.unpack_from(raw)
    name = raw[_LOCAL.size : _LOCAL.size + n_name]
    start: int = member.header + _LOCAL.size + n_name + n_extra
    if name != member.full_name or method or flags & _ENCRYPTED or start + member.size > member.stop:
        raise _broken(archive.where, f"the header of '{shown(member.name, 80)}' contradicts the directory")
    return start
