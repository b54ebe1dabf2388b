"""Two clients of smbprotocol that share files: oplocks, leases, byte-range locks, notifications, security descriptors."""

import os
import time
import uuid
from collections import OrderedDict
from contextlib import contextmanager

from smbprotocol import Dialects
from smbprotocol.change_notify import CompletionFilter, FileAction, FileSystemWatcher
from smbprotocol.connection import Connection, Request
from smbprotocol.create_contexts import LeaseState, SMB2CreateRequestLease, SMB2CreateRequestLeaseV2
from smbprotocol.exceptions import SMBResponseException
from smbprotocol.header import Commands, SMB2HeaderRequest
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    DirectoryAccessMask,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    InfoAdditionalInformation,
    InfoType,
    LockFlags,
    Open,
    RequestedOplockLevel,
    ShareAccess,
    SMB2LockElement,
    SMB2LockRequest,
    SMB2QueryInfoRequest,
    SMB2QueryInfoResponse,
    SMB2SetInfoRequest,
)
from smbprotocol.security_descriptor import AccessAllowedAce, AclPacket, SDControl, SIDPacket, SMB2CreateSDBuffer
from smbprotocol.session import Session
from smbprotocol.structure import BytesField, IntField, Structure
from smbprotocol.tree import TreeConnect

UNSOLICITED = 0xFFFFFFFFFFFFFFFF
PATIENCE = 20

ACCESS_DENIED = 0xC0000022
FILE_LOCK_CONFLICT = 0xC0000054
LOCK_NOT_GRANTED = 0xC0000055
RANGE_NOT_LOCKED = 0xC000007E
CANCELLED = 0xC0000120

READ = LeaseState.SMB2_LEASE_READ_CACHING
HANDLE = LeaseState.SMB2_LEASE_HANDLE_CACHING
WRITE = LeaseState.SMB2_LEASE_WRITE_CACHING
ACK_REQUIRED = 1

EVERYONE = "S-1-1-0"
READ_ACCESS = 0x00120089
WRITE_ACCESS = 0x00120116
DELETE_AND_CONTROL = 0x00070000


class OplockBreak(Structure):
    """Acknowledgement, notification and response have one form ([MS-SMB2] 2.2.23.1, 2.2.24.1, 2.2.25.1)."""

    COMMAND = Commands.SMB2_OPLOCK_BREAK

    def __init__(self):
        self.fields = OrderedDict(
            [
                ("structure_size", IntField(size=2, default=24)),
                ("oplock_level", IntField(size=1)),
                ("reserved", IntField(size=1)),
                ("reserved2", IntField(size=4)),
                ("file_id", BytesField(size=16)),
            ]
        )
        super().__init__()


class LeaseBreakNotification(Structure):
    """[MS-SMB2] 2.2.23.2"""

    def __init__(self):
        self.fields = OrderedDict(
            [
                ("structure_size", IntField(size=2, default=44)),
                ("new_epoch", IntField(size=2)),
                ("flags", IntField(size=4)),
                ("lease_key", BytesField(size=16)),
                ("current_state", IntField(size=4)),
                ("new_state", IntField(size=4)),
                ("reserved", BytesField(size=12)),
            ]
        )
        super().__init__()


class LeaseBreakAcknowledgement(Structure):
    """[MS-SMB2] 2.2.24.2"""

    COMMAND = Commands.SMB2_OPLOCK_BREAK

    def __init__(self):
        self.fields = OrderedDict(
            [
                ("structure_size", IntField(size=2, default=36)),
                ("reserved", IntField(size=2)),
                ("flags", IntField(size=4)),
                ("lease_key", BytesField(size=16)),
                ("lease_state", IntField(size=4)),
                ("lease_duration", IntField(size=8)),
            ]
        )
        super().__init__()


class Breaks:
    """What the server sends unasked. The library looks for the request of each message, so here is one for these."""

    def __init__(self, client):
        self.request = Request(SMB2HeaderRequest(), None, client.connection, client.session.session_id)
        client.connection.outstanding_requests[UNSOLICITED] = self.request

    def next(self, structure):
        check(self.request.response_event.wait(PATIENCE), "no break arrives")
        with self.request.response_event_lock:
            self.request.response_event.clear()
            message = structure()
            message.unpack(self.request.response["data"].get_value())
        return message

    def none(self):
        return not self.request.response_event.is_set()


class Client:
    """A connection of its own, and in it a session and a tree connect."""

    def __init__(self, host, port, share, dialect, encrypt):
        self.connection = Connection(uuid.uuid4(), host, port, require_signing=True)
        self.connection.connect(dialect)
        user, password = os.environ["SMB_USER"], os.environ["SMB_PASSWORD"]
        self.session = Session(self.connection, user, password, require_encryption=encrypt)
        self.session.connect()
        self.tree = TreeConnect(self.session, rf"\\{host}\{share}")
        self.tree.connect()
        self.breaks = Breaks(self)

    def send(self, message):
        return self.connection.send(message, self.session.session_id, self.tree.tree_connect_id)

    def ask(self, message):
        return self.connection.receive(self.send(message), timeout=PATIENCE)["data"].get_value()

    def open(self, name, access=READ_ACCESS | WRITE_ACCESS | DELETE_AND_CONTROL, **options):
        file = Open(self.tree, name)
        contexts = file.create(*arguments(access, **options))
        return file, contexts

    def start_open(self, name, access=READ_ACCESS | WRITE_ACCESS):
        """Sends the request only; the second part of what is returned waits for the answer."""
        file = Open(self.tree, name)
        create, receive = file.create(*arguments(access), send=False)
        request = self.send(create)

        def finish():
            receive(request)
            return file

        return request, finish


def arguments(access, oplock=RequestedOplockLevel.SMB2_OPLOCK_LEVEL_NONE, contexts=None, directory=False):
    share = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE
    kind = CreateOptions.FILE_DIRECTORY_FILE if directory else CreateOptions.FILE_NON_DIRECTORY_FILE
    return (ImpersonationLevel.Impersonation, access, 0, share, CreateDisposition.FILE_OPEN_IF, kind, contexts, oplock)


def use_shared_files(host, port, share, dialect, encrypt, base):
    """Everything in a directory of its own, which is removed when all has held."""
    first, second = (Client(host, port, share, dialect, encrypt) for _ in range(2))
    directory, _ = first.open(base, DirectoryAccessMask.FILE_LIST_DIRECTORY | DELETE_AND_CONTROL, directory=True)
    oplocks(first, second, rf"{base}\oplock")
    if dialect >= Dialects.SMB_2_1_0:
        leases(first, second, rf"{base}\lease", SMB2CreateRequestLease)
    if dialect >= Dialects.SMB_3_0_0:
        leases(first, second, rf"{base}\lease v2", SMB2CreateRequestLeaseV2)
    locks(first, second, rf"{base}\locked")
    notifications(second, directory, base)
    security(first, second, rf"{base}\secured")
    check(first.breaks.none() and second.breaks.none(), "a break that nothing asked for")
    directory.close()
    for client in (first, second):
        client.connection.disconnect(close=True)


def oplocks(first, second, name):
    batch = RequestedOplockLevel.SMB2_OPLOCK_LEVEL_BATCH
    held, _ = first.open(name, oplock=batch)
    check(held.oplock_level == batch, f"granted oplock {held.oplock_level}")
    held.write(b"before", 0)

    request, finish = second.start_open(name)
    notification = first.breaks.next(OplockBreak)
    check(notification["file_id"].get_value() == held.file_id, "the break is of another file")
    level_two = RequestedOplockLevel.SMB2_OPLOCK_LEVEL_II
    check(notification["oplock_level"].get_value() == level_two, "not broken to level II")
    check(not is_answered(request), "the second open didn't wait for the acknowledgement")
    held.write(b"cached", 0)
    acknowledgement = OplockBreak()
    acknowledgement["oplock_level"] = level_two
    acknowledgement["file_id"] = held.file_id
    first.ask(acknowledgement)
    other = finish()
    check(other.read(0, 6) == b"cached", "the second client doesn't see what was written back")

    # Level II ends when somebody writes, and nobody waits for that.
    other.write(b"second", 0)
    notification = first.breaks.next(OplockBreak)
    check(notification["oplock_level"].get_value() == 0, "level II isn't broken to none")
    check(held.read(0, 6) == b"second", "the first client doesn't see the second's write")
    close_and_delete(second, name, held, other)


def leases(first, second, name, structure):
    key = uuid.uuid4().bytes
    request = structure()
    request["lease_key"] = key
    request["lease_state"].set_flag(READ)
    request["lease_state"].set_flag(HANDLE)
    request["lease_state"].set_flag(WRITE)
    if structure is SMB2CreateRequestLeaseV2:
        request["parent_lease_key"] = bytes(16)
        request["epoch"] = bytes(2)
    lease = RequestedOplockLevel.SMB2_OPLOCK_LEVEL_LEASE
    held, contexts = first.open(name, oplock=lease, contexts=[request])
    granted = contexts[0]["lease_state"].get_value()
    check(granted == READ | HANDLE | WRITE, f"granted lease {granted}")
    check(contexts[0]["lease_key"].get_value() == key, "the lease has another key")
    held.write(b"before", 0)

    # The same key never breaks itself.
    again, contexts = first.open(name, oplock=lease, contexts=[request])
    check(contexts[0]["lease_state"].get_value() == READ | HANDLE | WRITE, "the second open of a lease weakens it")
    again.close()

    opening, finish = second.start_open(name)
    notification = first.breaks.next(LeaseBreakNotification)
    check(notification["lease_key"].get_value() == key, "the break is of another lease")
    check(notification["current_state"].get_value() == READ | HANDLE | WRITE, "broken from another state")
    check(notification["new_state"].get_value() == READ | HANDLE, "an open breaks more than write caching")
    check(notification["flags"].get_value() & ACK_REQUIRED, "nobody wants to know when it's written back")
    check(not is_answered(opening), "the second open didn't wait for the acknowledgement")
    held.write(b"cached", 0)
    acknowledge_lease(first, key, READ | HANDLE)
    other = finish()
    check(other.read(0, 6) == b"cached", "the second client doesn't see what was written back")

    other.write(b"second", 0)
    notification = first.breaks.next(LeaseBreakNotification)
    check(notification["new_state"].get_value() == 0, "a write leaves caching")
    if notification["flags"].get_value() & ACK_REQUIRED:
        acknowledge_lease(first, key, 0)
    check(held.read(0, 6) == b"second", "the first client doesn't see the second's write")
    close_and_delete(second, name, held, other)


def acknowledge_lease(client, key, state):
    acknowledgement = LeaseBreakAcknowledgement()
    acknowledgement["lease_key"] = key
    acknowledgement["lease_state"] = state
    response = LeaseBreakAcknowledgement()
    response.unpack(client.ask(acknowledgement))
    check(response["lease_state"].get_value() == state, "another lease than acknowledged")


def locks(first, second, name):
    held, other = first.open(name)[0], second.open(name)[0]
    held.write(b"x" * 100, 0)
    exclusive, shared = LockFlags.SMB2_LOCKFLAG_EXCLUSIVE_LOCK, LockFlags.SMB2_LOCKFLAG_SHARED_LOCK
    at_once, unlock = LockFlags.SMB2_LOCKFLAG_FAIL_IMMEDIATELY, LockFlags.SMB2_LOCKFLAG_UNLOCK
    first.ask(lock(held, (10, 10, exclusive | at_once)))
    for flags in (exclusive, shared):
        with refused(LOCK_NOT_GRANTED):
            second.ask(lock(other, (19, 1, flags | at_once)))
    # Neither of two is kept when one can't be had.
    with refused(LOCK_NOT_GRANTED):
        second.ask(lock(other, (50, 10, exclusive | at_once), (0, 11, exclusive | at_once)))
    first.ask(lock(held, (50, 10, exclusive | at_once)))
    first.ask(lock(held, (50, 10, unlock)))
    with refused(FILE_LOCK_CONFLICT):
        other.read(15, 10)
    with refused(FILE_LOCK_CONFLICT):
        other.write(b"y", 10)
    check(other.read(20, 10) == b"x" * 10, "beside a lock nothing can be read")

    waiting = second.send(lock(other, (10, 10, exclusive)))
    check(not is_answered(waiting), "a lock that has to wait is answered")
    first.ask(lock(held, (10, 10, unlock)))
    second.connection.receive(waiting, timeout=PATIENCE)
    with refused(FILE_LOCK_CONFLICT):
        held.read(10, 1)

    cancelled = first.send(lock(held, (10, 10, exclusive)))
    check(not is_answered(cancelled), "a lock that has to wait is answered")
    cancelled.cancel()
    with refused(CANCELLED):
        first.connection.receive(cancelled, timeout=PATIENCE)
    with refused(RANGE_NOT_LOCKED):
        first.ask(lock(held, (10, 10, unlock)))
    # Closing unlocks.
    other.close()
    first.ask(lock(held, (10, 10, exclusive | at_once)))
    close_and_delete(second, name, held)


def lock(file, *ranges):
    request = SMB2LockRequest()
    request["file_id"] = file.file_id
    elements = []
    for offset, length, flags in ranges:
        element = SMB2LockElement()
        element["offset"] = offset
        element["length"] = length
        element["flags"] = flags
        elements.append(element)
    request["locks"] = elements
    return request


def notifications(second, directory, base):
    watcher = watch(directory)
    close_and_delete(second, rf"{base}\𝄞 new", second.open(rf"{base}\𝄞 new")[0])
    changes = watcher.wait()
    names = [change["file_name"].get_value() for change in changes]
    actions = [change["action"].get_value() for change in changes]
    check(actions[0] == FileAction.FILE_ACTION_ADDED and names[0] == "𝄞 new", f"changes {actions} of {names}")

    # What happened since then is kept for the next request.
    changes = watch(directory).wait()
    actions = [change["action"].get_value() for change in changes]
    check(actions == [FileAction.FILE_ACTION_REMOVED], f"changes {actions}")

    watcher = watch(directory)
    check(not is_answered(watcher._request), "a watch is answered without a change")
    watcher.cancel()
    check(watcher.wait() is None and watcher.cancelled, "a watch that can't be cancelled")


def watch(directory):
    watcher = FileSystemWatcher(directory)
    watcher.start(CompletionFilter.FILE_NOTIFY_CHANGE_FILE_NAME)
    # Without the interim answer another client's request may overtake this one.
    deadline = time.monotonic() + PATIENCE
    while watcher._request is None or watcher._request.response is None:
        check(time.monotonic() < deadline, "a watch has no interim answer")
        time.sleep(0.01)
    return watcher


def security(first, second, name):
    file, _ = first.open(name)
    before = query_security(first, file)
    owner = str(before.get_owner())
    check(owner.startswith("S-1-") and before.get_group() is not None, f"owner {owner}")
    check(before.get_dacl() is not None, "no list of who may do what")

    set_dacl(first, file, (EVERYONE, READ_ACCESS), (owner, READ_ACCESS | DELETE_AND_CONTROL))
    after = query_security(first, file)
    entries = [(str(ace["sid"].get_value()), ace["mask"].get_value()) for ace in after.get_dacl()["aces"].get_value()]
    wanted = [(EVERYONE, READ_ACCESS), (owner, READ_ACCESS | DELETE_AND_CONTROL)]
    check(entries == wanted, f"entries {entries}")
    check(str(after.get_owner()) == owner, "the owner has changed")

    with refused(ACCESS_DENIED):
        second.open(name, READ_ACCESS | FilePipePrinterAccessMask.FILE_WRITE_DATA)
    second.open(name, READ_ACCESS)[0].close()
    # What was opened before may go on.
    file.write(b"still open", 0)
    set_dacl(first, file, (EVERYONE, READ_ACCESS | WRITE_ACCESS | DELETE_AND_CONTROL))
    second.open(name, READ_ACCESS | WRITE_ACCESS)[0].close()
    close_and_delete(second, name, file)


def query_security(client, file):
    request = SMB2QueryInfoRequest()
    request["info_type"] = InfoType.SMB2_0_INFO_SECURITY
    request["output_buffer_length"] = 65536
    request["additional_information"] = (
        InfoAdditionalInformation.OWNER_SECURTIY_INFORMATION
        | InfoAdditionalInformation.GROUP_SECURITY_INFORMATION
        | InfoAdditionalInformation.DACL_SECURITY_INFORMATION
    )
    request["file_id"] = file.file_id
    response = SMB2QueryInfoResponse()
    response.unpack(client.ask(request))
    descriptor = SMB2CreateSDBuffer()
    descriptor.unpack(response["buffer"].get_value())
    return descriptor


def set_dacl(client, file, *entries):
    acl = AclPacket()
    aces = []
    for sid, mask in entries:
        ace = AccessAllowedAce()
        ace["mask"] = mask
        ace["sid"] = SIDPacket()
        ace["sid"].get_value().from_string(sid)
        aces.append(ace)
    acl["aces"] = aces
    descriptor = SMB2CreateSDBuffer()
    descriptor["control"].set_flag(SDControl.SELF_RELATIVE)
    descriptor.set_dacl(acl)
    request = SMB2SetInfoRequest()
    request["info_type"] = InfoType.SMB2_0_INFO_SECURITY
    request["additional_information"] = InfoAdditionalInformation.DACL_SECURITY_INFORMATION
    request["file_id"] = file.file_id
    request["buffer"] = descriptor
    client.ask(request)


def close_and_delete(client, name, *opens):
    for file in opens:
        file.close()
    file = Open(client.tree, name)
    share = ShareAccess.FILE_SHARE_DELETE
    options = CreateOptions.FILE_DELETE_ON_CLOSE
    file.create(ImpersonationLevel.Impersonation, 0x00010000, 0, share, CreateDisposition.FILE_OPEN, options)
    file.close()


def is_answered(request):
    """Whether more than an interim answer is there. A server that forgets to wait answers within this time."""
    time.sleep(0.2)
    response = request.response
    return response is not None and response["status"].get_value() != 0x00000103


@contextmanager
def refused(status):
    try:
        yield
    except SMBResponseException as error:
        check(error.status == status, f"{error.status:#x} in place of {status:#x}")
        return
    check(False, f"no {status:#x}")


def check(holds, complaint):
    if not holds:
        raise AssertionError(complaint)
