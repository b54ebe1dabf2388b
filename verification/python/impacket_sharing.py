"""Two clients of impacket that share files: oplocks, leases, byte-range locks, notifications, security descriptors."""

import struct
import threading
import time
import uuid
from contextlib import contextmanager

from impacket import smb3structs as smb2
from impacket.ldap import ldaptypes
from impacket.smb3 import SessionError

UNSOLICITED = 0xFFFFFFFFFFFFFFFF
PATIENCE = 20

ACCESS_DENIED = 0xC0000022
FILE_LOCK_CONFLICT = 0xC0000054
LOCK_NOT_GRANTED = 0xC0000055
RANGE_NOT_LOCKED = 0xC000007E
CANCELLED = 0xC0000120

READ = smb2.SMB2_LEASE_READ_CACHING
HANDLE = smb2.SMB2_LEASE_HANDLE_CACHING
WRITE = smb2.SMB2_LEASE_WRITE_CACHING

EVERYONE = "S-1-1-0"
READ_ACCESS = 0x00120089
WRITE_ACCESS = 0x00120116
DELETE_AND_CONTROL = 0x00070000
FILE_WRITE_DATA = 2

FILE_ACTION_ADDED = 1
FILE_ACTION_REMOVED = 2


class Client:
    """A connection that is logged in, and in it a tree connect."""

    def __init__(self, connection, share):
        self.connection = connection
        self.smb = connection.getSMBServer()
        self.tree = self.smb.connectTree(share)

    def open(self, name, access=READ_ACCESS | WRITE_ACCESS | DELETE_AND_CONTROL, **options):
        share = smb2.FILE_SHARE_READ | smb2.FILE_SHARE_WRITE | smb2.FILE_SHARE_DELETE
        kind = smb2.FILE_DIRECTORY_FILE if options.pop("directory", False) else smb2.FILE_NON_DIRECTORY_FILE
        return self.smb.create(self.tree, name, access, share, kind, smb2.FILE_OPEN_IF, 0, **options)

    def close(self, file):
        self.smb.close(self.tree, file)

    def read(self, file, offset, length):
        return self.smb.read(self.tree, file, offset, length)

    def write(self, file, data, offset=0):
        self.smb.write(self.tree, file, data, offset, len(data))

    def send(self, command, data):
        packet = self.smb.SMB_PACKET()
        packet["Command"] = command
        packet["TreeID"] = self.tree
        packet["Data"] = data
        return self.smb.sendSMB(packet)

    def receive(self, message_id):
        answer = self.smb.recvSMB(message_id)
        answer.isValidAnswer(0)
        return answer["Data"]

    def ask(self, command, data):
        return self.receive(self.send(command, data))

    def next_break(self, structure):
        """What the server sends unasked. The library takes it for an answer, whose charge corrects its message ids."""
        connection = self.smb._Connection
        window = connection["SequenceWindow"]
        message = self.smb.recvSMB(UNSOLICITED)
        connection["SequenceWindow"] = window
        return structure(message["Data"])

    def delete(self, name):
        share = smb2.FILE_SHARE_DELETE
        options = smb2.FILE_DELETE_ON_CLOSE
        self.close(self.smb.create(self.tree, name, 0x00010000, share, options, smb2.FILE_OPEN, 0))


class Background:
    """A call that waits for the server, while the other client does what the server waits for."""

    def __init__(self, call):
        self.result = None
        self.thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self.thread.start()

    def _run(self, call):
        self.result = call()

    def is_waiting(self):
        """A server that forgets to wait answers within this time."""
        self.thread.join(0.2)
        return self.thread.is_alive()

    def finish(self):
        self.thread.join(PATIENCE)
        check(not self.thread.is_alive() and self.result is not None, "the server still waits")
        return self.result


def use_shared_files(connect, share, dialect, base):
    """Everything in a directory of its own; `connect` makes connections that are logged in."""
    first, second = (Client(connect(), share) for _ in range(2))
    directory = first.open(base, READ_ACCESS | DELETE_AND_CONTROL, directory=True)
    oplocks(first, second, rf"{base}\oplock")
    if dialect >= smb2.SMB2_DIALECT_21:
        request = smb2.SMB2_CREATE_REQUEST_LEASE()
        leases(first, second, rf"{base}\lease", request)
    if dialect >= smb2.SMB2_DIALECT_30:
        request = smb2.SMB2_CREATE_REQUEST_LEASE_V2()
        leases(first, second, rf"{base}\lease v2", request)
    locks(first, second, rf"{base}\locked")
    notifications(first, second, directory, base)
    security(first, second, rf"{base}\secured")
    first.close(directory)
    second.delete(base)
    for client in (first, second):
        client.connection.logoff()
        client.connection.close()


def oplocks(first, second, name):
    held = first.open(name, oplockLevel=smb2.SMB2_OPLOCK_LEVEL_BATCH)
    first.write(held, b"before")
    opening = Background(lambda: second.open(name))
    notification = first.next_break(smb2.SMB2OplockBreakNotification)
    check(notification["FileID"].getData() == held, "the break is of another file")
    check(notification["OplockLevel"] == smb2.SMB2_OPLOCK_LEVEL_II, "not broken to level II")
    check(opening.is_waiting(), "the second open didn't wait for the acknowledgement")
    first.write(held, b"cached")
    acknowledgement = smb2.SMB2OplockBreakAcknowledgment()
    acknowledgement["OplockLevel"] = smb2.SMB2_OPLOCK_LEVEL_II
    acknowledgement["FileID"] = held
    first.ask(smb2.SMB2_OPLOCK_BREAK, acknowledgement)
    other = opening.finish()
    check(second.read(other, 0, 6) == b"cached", "the second client doesn't see what was written back")

    # Level II ends when somebody writes, and nobody waits for that.
    second.write(other, b"second")
    notification = first.next_break(smb2.SMB2OplockBreakNotification)
    check(notification["OplockLevel"] == smb2.SMB2_OPLOCK_LEVEL_NONE, "level II isn't broken to none")
    check(first.read(held, 0, 6) == b"second", "the first client doesn't see the second's write")
    first.close(held)
    second.close(other)
    second.delete(name)


def leases(first, second, name, request):
    key = uuid.uuid4().bytes
    request["LeaseKey"] = key
    request["LeaseState"] = READ | HANDLE | WRITE
    contexts = [create_context(b"RqLs", request.getData())]
    held = first.open(name, oplockLevel=smb2.SMB2_OPLOCK_LEVEL_LEASE, createContexts=contexts)
    first.write(held, b"before")
    opening = Background(lambda: second.open(name))
    notification = first.next_break(smb2.SMB2LeaseBreakNotification)
    check(notification["LeaseKey"] == key, "the break is of another lease")
    check(notification["CurrentLeaseState"] == READ | HANDLE | WRITE, "granted less than asked for")
    check(notification["NewLeaseState"] == READ | HANDLE, "an open breaks more than write caching")
    ack_required = smb2.SMB2_NOTIFY_BREAK_LEASE_FLAG_ACK_REQUIRED
    check(notification["Flags"] & ack_required, "nobody wants to know when it's written back")
    check(opening.is_waiting(), "the second open didn't wait for the acknowledgement")
    first.write(held, b"cached")
    acknowledge_lease(first, key, READ | HANDLE)
    other = opening.finish()
    check(second.read(other, 0, 6) == b"cached", "the second client doesn't see what was written back")

    second.write(other, b"second")
    notification = first.next_break(smb2.SMB2LeaseBreakNotification)
    check(notification["NewLeaseState"] == 0, "a write leaves caching")
    if notification["Flags"] & ack_required:
        acknowledge_lease(first, key, 0)
    check(first.read(held, 0, 6) == b"second", "the first client doesn't see the second's write")
    first.close(held)
    second.close(other)
    second.delete(name)


def create_context(name, data):
    context = smb2.SMB2CreateContext()
    context["NameOffset"] = 16
    context["NameLength"] = len(name)
    context["DataOffset"] = 24
    context["DataLength"] = len(data)
    context["Buffer"] = name.ljust(8, b"\0") + data
    return context


def acknowledge_lease(client, key, state):
    acknowledgement = smb2.SMB2LeaseBreakAcknowledgement()
    acknowledgement["LeaseKey"] = key
    acknowledgement["LeaseState"] = state
    response = smb2.SMB2LeaseBreakAcknowledgement(client.ask(smb2.SMB2_OPLOCK_BREAK, acknowledgement))
    check(response["LeaseState"] == state, "another lease than acknowledged")


def locks(first, second, name):
    held, other = first.open(name), second.open(name)
    first.write(held, b"x" * 100)
    exclusive, shared = smb2.SMB2_LOCKFLAG_EXCLUSIVE_LOCK, smb2.SMB2_LOCKFLAG_SHARED_LOCK
    at_once, unlock = smb2.SMB2_LOCKFLAG_FAIL_IMMEDIATELY, smb2.SMB2_LOCKFLAG_UNLOCK
    lock(first, held, 10, 10, exclusive | at_once)
    for flags in (exclusive, shared):
        with refused(LOCK_NOT_GRANTED):
            lock(second, other, 19, 1, flags | at_once)
    with refused(FILE_LOCK_CONFLICT):
        second.read(other, 15, 10)
    with refused(FILE_LOCK_CONFLICT):
        second.write(other, b"y", 10)
    check(second.read(other, 20, 10) == b"x" * 10, "beside a lock nothing can be read")
    waiting = Background(lambda: lock(second, other, 10, 10, exclusive))
    check(waiting.is_waiting(), "a lock that has to wait is answered")
    lock(first, held, 10, 10, unlock)
    waiting.finish()
    with refused(FILE_LOCK_CONFLICT):
        first.read(held, 10, 1)
    with refused(RANGE_NOT_LOCKED):
        lock(first, held, 10, 10, unlock)
    # Closing unlocks.
    second.close(other)
    lock(first, held, 10, 10, exclusive | at_once)
    first.close(held)
    second.delete(name)


def lock(client, file, offset, length, flags):
    """The library's own function for this joins the ranges as text."""
    element = smb2.SMB2_LOCK_ELEMENT()
    element["Offset"] = offset
    element["Length"] = length
    element["Flags"] = flags
    request = smb2.SMB2Lock()
    request["FileID"] = file
    request["LockCount"] = 1
    request["Locks"] = element.getData()
    return client.ask(smb2.SMB2_LOCK, request)


def notifications(first, second, directory, base):
    watch = start_watch(first, directory)
    second.close(second.open(rf"{base}\𝄞 new"))
    check(changes(first.receive(watch)) == [(FILE_ACTION_ADDED, "𝄞 new")], "a new file isn't told of")
    # What happens between two requests is kept.
    second.delete(rf"{base}\𝄞 new")
    watch = start_watch(first, directory)
    check(changes(first.receive(watch)) == [(FILE_ACTION_REMOVED, "𝄞 new")], "a removed file isn't told of")
    watch = start_watch(first, directory)
    first.smb.cancel(watch)
    with refused(CANCELLED):
        first.receive(watch)


def start_watch(client, directory):
    request = smb2.SMB2ChangeNotify()
    request["OutputBufferLength"] = 4096
    request["FileID"] = directory
    request["CompletionFilter"] = smb2.FILE_NOTIFY_CHANGE_FILE_NAME
    watch = client.send(smb2.SMB2_CHANGE_NOTIFY, request)
    # The library doesn't show the interim answer. Without it another client's request may overtake this one.
    time.sleep(0.3)
    return watch


def changes(data):
    """[MS-FSCC] 2.7.1"""
    buffer = smb2.SMB2ChangeNotify_Response(data)["Buffer"]
    found = []
    following = True
    while following:
        following, action, length = struct.unpack_from("<LLL", buffer)
        found.append((action, buffer[12 : 12 + length].decode("utf-16-le")))
        buffer = buffer[following:]
    return found


def security(first, second, name):
    file = first.open(name)
    before = query_security(first, file)
    owner = before["OwnerSid"].formatCanonical()
    check(owner.startswith("S-1-") and before["GroupSid"] != b"" and before["Dacl"] != b"", f"owner {owner}")
    wanted = [(EVERYONE, READ_ACCESS), (owner, READ_ACCESS | DELETE_AND_CONTROL)]
    set_dacl(first, file, wanted)
    after = query_security(first, file)
    entries = [(ace["Ace"]["Sid"].formatCanonical(), ace["Ace"]["Mask"]["Mask"]) for ace in after["Dacl"].aces]
    check(entries == wanted, f"entries {entries}")
    check(after["OwnerSid"].formatCanonical() == owner, "the owner has changed")
    with refused(ACCESS_DENIED):
        second.open(name, READ_ACCESS | FILE_WRITE_DATA)
    second.close(second.open(name, READ_ACCESS))
    # What was opened before may go on.
    first.write(file, b"still open")
    set_dacl(first, file, [(EVERYONE, READ_ACCESS | WRITE_ACCESS | DELETE_AND_CONTROL)])
    second.close(second.open(name, READ_ACCESS | WRITE_ACCESS))
    first.close(file)
    second.delete(name)


PARTS = smb2.OWNER_SECURITY_INFORMATION | smb2.GROUP_SECURITY_INFORMATION | smb2.DACL_SECURITY_INFORMATION


def query_security(client, file):
    infos = {"infoType": smb2.SMB2_0_INFO_SECURITY, "fileInfoClass": 0, "additionalInformation": PARTS}
    return ldaptypes.SR_SECURITY_DESCRIPTOR(data=client.smb.queryInfo(client.tree, file, **infos))


def set_dacl(client, file, entries):
    acl = ldaptypes.ACL()
    acl["AclRevision"] = 2
    acl["Sbz1"] = 0
    acl["Sbz2"] = 0
    acl.aces = []
    for sid, mask in entries:
        allowed = ldaptypes.ACCESS_ALLOWED_ACE()
        allowed["Mask"] = ldaptypes.ACCESS_MASK()
        allowed["Mask"]["Mask"] = mask
        allowed["Sid"] = ldaptypes.LDAP_SID()
        allowed["Sid"].fromCanonical(sid)
        ace = ldaptypes.ACE()
        ace["AceType"] = allowed.ACE_TYPE
        ace["AceFlags"] = 0
        ace["Ace"] = allowed
        acl.aces.append(ace)
    descriptor = ldaptypes.SR_SECURITY_DESCRIPTOR()
    descriptor["Revision"] = b"\x01"
    descriptor["Sbz1"] = b"\x00"
    # Self-relative, with a DACL ([MS-DTYP] 2.4.6).
    descriptor["Control"] = 0x8004
    descriptor["OwnerSid"] = b""
    descriptor["GroupSid"] = b""
    descriptor["Sacl"] = b""
    descriptor["Dacl"] = acl
    infos = {"infoType": smb2.SMB2_0_INFO_SECURITY, "fileInfoClass": 0}
    infos["additionalInformation"] = smb2.DACL_SECURITY_INFORMATION
    client.smb.setInfo(client.tree, file, descriptor.getData(), **infos)


@contextmanager
def refused(status):
    try:
        yield
    except SessionError as error:
        check(error.get_error_code() == status, f"{error.get_error_code():#x} in place of {status:#x}")
        return
    check(False, f"no {status:#x}")


def check(holds, complaint):
    if not holds:
        raise AssertionError(complaint)
