"""A client that keeps caches on the strength of its leases: smbprotocol asks for leases, and this acts on their breaks."""

import queue
import struct
import threading
import time
import uuid

from smbprotocol.connection import Connection, Request
from smbprotocol.create_contexts import LeaseState, SMB2CreateRequestLeaseV2
from smbprotocol.exceptions import SMBResponseException
from smbprotocol.file_info import FileInformationClass
from smbprotocol.header import SMB2HeaderRequest
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    ImpersonationLevel,
    InfoType,
    Open,
    QueryDirectoryFlags,
    RequestedOplockLevel,
    SMB2SetInfoRequest,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from smbprotocol_sharing import ACK_REQUIRED, LeaseBreakAcknowledgement, LeaseBreakNotification

UNSOLICITED = 0xFFFFFFFFFFFFFFFF

END_OF_FILE = 0xC0000011
NO_MORE_FILES = 0x80000006

R = LeaseState.SMB2_LEASE_READ_CACHING
H = LeaseState.SMB2_LEASE_HANDLE_CACHING
W = LeaseState.SMB2_LEASE_WRITE_CACHING

READ_ACCESS = 0x00120089
WRITE_ACCESS = 0x00120116
SHARE_ALL = 7

# As the storm's oracle has them.
SLOT_SIZE = 64
SLOTS = 1024
SIZE = SLOT_SIZE * SLOTS
# How long a break may be on its way to a client that nobody waits for.
GRACE = 5


class Violation(Exception):
    """Something that no sequence of operations explains."""


class Breaks(Request):
    """What the server sends unasked. The library keeps one response for each request; here every one is kept."""

    def __init__(self, connection, session_id):
        self.queue = queue.SimpleQueue()
        super().__init__(SMB2HeaderRequest(), None, connection, session_id)

    @property
    def response(self):
        return None

    @response.setter
    def response(self, header):
        if header is not None:
            self.queue.put(header)


class Share:
    """A connection with a session and a tree connect, and the caches that its leases allow."""

    def __init__(self, site):
        self.gone = False
        self.failure = None
        self.breaks_seen = 0
        self.leases = {}
        self.connection = Connection(uuid.uuid4(), site.host, site.port, require_signing=True)
        self.connection.connect()
        self.session = Session(self.connection, site.user, site.password, require_encryption=site.encrypt)
        self.session.connect()
        self.tree = TreeConnect(self.session, rf"\\{site.host}\{site.share}")
        self.tree.connect()
        # Breaks are acknowledged while requests wait.
        self.connection.echo(credit_request=64)
        self.breaks = Breaks(self.connection, self.session.session_id)
        self.connection.outstanding_requests[UNSOLICITED] = self.breaks
        self.thread = threading.Thread(target=self.answer_breaks, daemon=True)
        self.thread.start()

    def send(self, message):
        return self.connection.send(message, self.session.session_id, self.tree.tree_connect_id)

    def open(self, name, access, share=SHARE_ALL, disposition=CreateDisposition.FILE_OPEN, options=0, **more):
        file = Open(self.tree, "storm\\" + name)
        kind = 0 if options & CreateOptions.FILE_DIRECTORY_FILE else CreateOptions.FILE_NON_DIRECTORY_FILE
        file.create(ImpersonationLevel.Impersonation, access, 0, share, disposition, options | kind, **more)
        return file

    def rename(self, file, name, replace=False):
        target = ("storm\\" + name).encode("utf-16-le")
        self.set_information(file, 10, struct.pack("<B7xQI", replace, 0, len(target)) + target)

    def set_information(self, file, information_class, buffer):
        request = SMB2SetInfoRequest()
        request["info_type"] = InfoType.SMB2_0_INFO_FILE
        request["file_info_class"] = information_class
        request["file_id"] = file.file_id
        request["buffer"] = buffer
        self.connection.receive(self.send(request))

    def answer_breaks(self):
        try:
            while True:
                header = self.breaks.queue.get()
                if header is None:
                    return
                notification = LeaseBreakNotification()
                notification.unpack(header["data"].get_value())
                self.on_break(notification)
        except Exception as error:
            if not self.gone:
                self.failure = error

    def on_break(self, notification):
        self.breaks_seen += 1
        key = notification["lease_key"].get_value()
        state = notification["new_state"].get_value()
        acknowledge = notification["flags"].get_value() & ACK_REQUIRED
        file = self.leases.get(key)
        if file is not None and file.on_break(state):
            return
        if not acknowledge:
            return
        message = LeaseBreakAcknowledgement()
        message["lease_key"] = key
        message["lease_state"] = state
        try:
            self.connection.receive(self.send(message))
        except SMBResponseException:
            # It may have been closed meanwhile, and with that its lease is gone.
            if file is not None and not file.closing:
                raise

    def check(self):
        if self.failure is not None:
            raise Violation(f"a break can't be answered: {self.failure!r}") from self.failure

    def cut(self):
        """Goes without a farewell."""
        self.gone = True
        self.connection.transport.close()
        self.breaks.queue.put(None)
        self.thread.join(10)

    def leave(self):
        self.check()
        self.connection.disconnect()
        self.gone = True
        self.breaks.queue.put(None)


class Cached:
    """An open under a lease: read from memory under R, kept open for later under H.

    No lock is held while the server is waited for: the server may wait for another client, and that one for us.
    """

    def __init__(self, share, name, wanted, access, disposition, options):
        self.share, self.name = share, name
        self.mutex = threading.Lock()
        self.opened = threading.Event()
        self.state = 0
        self.cache = None
        # Counts what takes the cache away.
        self.lost = 0
        self.parked = False
        self.closing = False
        self.key = uuid.uuid4().bytes
        request = SMB2CreateRequestLeaseV2()
        request["lease_key"] = self.key
        for flag in (R, H, W):
            if wanted & flag:
                request["lease_state"].set_flag(flag)
        request["parent_lease_key"] = bytes(16)
        request["epoch"] = bytes(2)
        # A break may be here before this thread has seen the grant.
        share.leases[self.key] = self
        self.file = Open(share.tree, name)
        try:
            contexts = self.file.create(
                ImpersonationLevel.Impersonation,
                access,
                0,
                SHARE_ALL,
                disposition,
                options,
                [request],
                RequestedOplockLevel.SMB2_OPLOCK_LEVEL_LEASE,
            )
            self.state = contexts[0]["lease_state"].get_value()
        except SMBResponseException:
            del share.leases[self.key]
            raise
        finally:
            self.opened.set()

    def on_break(self, state):
        """Gives up what the server takes. Returns whether that closed the file, which is an answer, too."""
        self.opened.wait(60)
        with self.mutex:
            taken = self.state & ~state
            self.state &= state
            if taken & R:
                self.cache = None
                self.lost += 1
            closes = self.parked and taken & H
            if closes:
                self.closing = True
        if taken & W:
            self.flush()
        if closes:
            self.finish()
        return closes

    def flush(self):
        """Writes back."""

    def read(self):
        """The content, and whether it came from memory."""
        with self.mutex:
            if self.cache is not None and self.state & R:
                return self.cache, True
        content, lost = self.fetch()
        with self.mutex:
            if self.lost == lost and self.state & R:
                self.cache = content
        return content, False

    def fetch(self):
        """The server's content with what is still to be written there, and the state of the cache before."""
        raise NotImplementedError

    def audit(self):
        """The cache, as long as it is valid, is what the server has."""
        with self.mutex:
            if self.cache is None or not self.state & R:
                return
            cached = self.cache
        content, lost = self.fetch()
        if cached == content:
            return
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            with self.mutex:
                if self.lost != lost or self.cache is None or self.cache == content:
                    return
            time.sleep(0.02)
        raise Violation(
            f"{self.name}: a lease calls a cache valid for {GRACE} s that differs from the server in "
            f"{self.difference(cached, content)}, and no break came"
        )

    def close(self):
        self.audit()
        self.flush()
        with self.mutex:
            if self.closing:
                return
            self.closing = True
        self.finish()

    def finish(self):
        self.flush()
        self.file.close()
        self.share.leases.pop(self.key, None)
        with self.mutex:
            self.state, self.cache = 0, None

    def park(self):
        """Closed by whoever worked with it, and kept open as long as the server lets it."""
        with self.mutex:
            self.parked = bool(self.state & H) and not self.closing
            return self.parked

    def unpark(self):
        with self.mutex:
            self.parked = False
            return not self.closing


class CachedLog(Cached):
    """A log, which is also written to memory under W. The cache is replaced and never changed."""

    def __init__(self, share, log, generation, wanted):
        self.log, self.generation = log, generation
        self.flushing = threading.Lock()
        self.dirty = {}
        kind = CreateOptions.FILE_NON_DIRECTORY_FILE
        access = READ_ACCESS | WRITE_ACCESS
        super().__init__(share, log_name(log, generation), wanted, access, CreateDisposition.FILE_OPEN_IF, kind)

    def flush(self):
        with self.flushing:
            while True:
                with self.mutex:
                    dirty = dict(self.dirty)
                if not dirty:
                    return
                for slot, data in dirty.items():
                    self.file.write(data, slot * SLOT_SIZE)
                with self.mutex:
                    for slot in dirty:
                        del self.dirty[slot]

    def write(self, slot, data):
        with self.mutex:
            if self.state & W:
                self.dirty[slot] = data
                self.patch(slot, data)
                return
            lost = self.lost
        self.file.write(data, slot * SLOT_SIZE)
        with self.mutex:
            if self.lost == lost:
                self.patch(slot, data)

    def patch(self, slot, data):
        if self.cache is not None:
            self.cache = with_slots(self.cache, {slot: data})

    def fetch(self):
        with self.mutex:
            dirty, lost = dict(self.dirty), self.lost
        return with_slots(read_whole(self.file), dirty), lost

    def difference(self, cached, content):
        differing = [slot for slot in range(SLOTS) if slot_of(cached, slot) != slot_of(content, slot)]
        return f"slots {differing[:8]}"


class CachedDirectory(Cached):
    """A directory whose listing is kept."""

    def __init__(self, share, number, wanted):
        self.number = number
        kind = CreateOptions.FILE_DIRECTORY_FILE
        name = f"storm\\names\\{number}"
        super().__init__(share, name, wanted, READ_ACCESS, CreateDisposition.FILE_OPEN, kind)

    def fetch(self):
        with self.mutex:
            lost = self.lost
        return list_names(self.file), lost

    def difference(self, cached, content):
        return f"{sorted(set(cached) ^ set(content))[:8]}"


def list_names(file):
    """The names in a directory, from the first."""
    names = []
    flags = QueryDirectoryFlags.SMB2_RESTART_SCANS
    try:
        while True:
            entries = file.query_directory("*", FileInformationClass.FILE_NAMES_INFORMATION, flags=flags)
            names += [entry["file_name"].get_value().decode("utf-16-le") for entry in entries]
            flags = 0
    except SMBResponseException as error:
        if error.status != NO_MORE_FILES:
            raise
    return [name for name in names if name not in (".", "..")]


def with_slots(content, slots):
    content = bytearray(content)
    for slot, data in slots.items():
        content[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE] = data
    return bytes(content)


def log_name(log, generation):
    return f"storm\\logs\\{log}-{generation}"


def slot_of(content, slot):
    return content[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE]


def read_whole(file):
    try:
        content = file.read(0, SIZE)
    except SMBResponseException as error:
        if error.status != END_OF_FILE:
            raise
        content = b""
    return content.ljust(SIZE, b"\0")
