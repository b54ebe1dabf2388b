"""One of the storm's clients: smbprotocol with a cache on the strength of leases, and seeded random work.

The storm's oracle is asked before each operation and told its end; it alone judges. This end judges only what the
oracle can't see: that a cache which a lease calls valid holds what the server holds.
"""

import hashlib
import os
import queue
import random
import socket
import struct
import sys
import threading
import time
import traceback
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
    LockFlags,
    Open,
    RequestedOplockLevel,
    SMB2LockElement,
    SMB2SetInfoRequest,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from smbprotocol_sharing import ACK_REQUIRED, LeaseBreakAcknowledgement, LeaseBreakNotification

UNSOLICITED = 0xFFFFFFFFFFFFFFFF

END_OF_FILE = 0xC0000011
NO_MORE_FILES = 0x80000006
OBJECT_NAME_NOT_FOUND = 0xC0000034
OBJECT_NAME_COLLISION = 0xC0000035
DELETE_PENDING = 0xC0000056

R = LeaseState.SMB2_LEASE_READ_CACHING
H = LeaseState.SMB2_LEASE_HANDLE_CACHING
W = LeaseState.SMB2_LEASE_WRITE_CACHING
LEASES = [R | W | H, R | W | H, R | H, R | H, R, 0]

READ_ACCESS = 0x00120089
WRITE_ACCESS = 0x00120116
DELETE_ACCESS = 0x00110080
LOOK_ACCESS = 0x00100080

SHARE_ALL = 7
SHARE_READ = 1
SHARE_NONE = 0

# As the storm's oracle has them.
SLOT_SIZE = 64
SLOTS = 1024
CELL_SIZE = 64
SIZE = SLOT_SIZE * SLOTS
NOTHING = bytes(SLOT_SIZE)
# How long a break may be on its way to a client that nobody waits for.
GRACE = 5
KEPT_MAX = 4


def record(log, generation, slot, worker):
    """What a slot holds once its worker has written it."""
    head = f"log {log} {generation} slot {slot} by {worker} "
    digest = hashlib.sha256(head.encode()).hexdigest()
    return (head + digest)[: SLOT_SIZE - 1].encode() + b"\n"


class Stop(Exception):
    """The storm is over."""


class Violation(Exception):
    """Something that no sequence of operations explains."""


class Oracle:
    """Asked before each operation, told after it. What it receives, it has received before the server does."""

    def __init__(self, port, worker, client):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("r")
        self.ask("hello", worker, client)

    def tell(self, *words):
        self.socket.sendall((" ".join(str(word) for word in words) + "\n").encode())

    def hear(self):
        line = self.lines.readline()
        if not line:
            raise Stop
        return line.split()

    def ask(self, *words):
        self.tell(*words)
        answer = self.hear()
        if answer[0] != "go":
            raise Stop
        return answer[1:]

    def begin(self, *words):
        return self.ask("begin", *words)

    def end(self, *words):
        self.tell("end", *words)


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


class CachedLog:
    """An open log: read from memory under R, written to memory under W, kept open for later under H.

    No lock is held while the server is waited for: the server may wait for another client, and that one for us.
    """

    def __init__(self, share, log, generation, wanted):
        self.share, self.log, self.generation = share, log, generation
        self.mutex = threading.Lock()
        self.flushing = threading.Lock()
        self.opened = threading.Event()
        self.state = 0
        self.cache = None
        # Counts what takes the cache away.
        self.lost = 0
        self.dirty = {}
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
        self.file = Open(share.tree, log_name(log, generation))
        try:
            contexts = self.file.create(
                ImpersonationLevel.Impersonation,
                READ_ACCESS | WRITE_ACCESS,
                0,
                SHARE_ALL,
                CreateDisposition.FILE_OPEN_IF,
                CreateOptions.FILE_NON_DIRECTORY_FILE,
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
            self.cache[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE] = data

    def read(self):
        """The content, and whether it came from memory."""
        with self.mutex:
            if self.cache is not None and self.state & R:
                return bytes(self.cache), True
        content, lost = self.fetch()
        with self.mutex:
            if self.lost == lost and self.state & R:
                self.cache = bytearray(content)
        return content, False

    def fetch(self):
        """The server's content with what is still to be written there, and the state of the cache before."""
        with self.mutex:
            dirty, lost = dict(self.dirty), self.lost
        content = bytearray(read_whole(self.file))
        for slot, data in dirty.items():
            content[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE] = data
        return bytes(content), lost

    def audit(self):
        """The cache, as long as it is valid, is what the server has."""
        with self.mutex:
            if self.cache is None or not self.state & R:
                return
            cached = bytes(self.cache)
        content, lost = self.fetch()
        if cached == content:
            return
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            with self.mutex:
                if self.lost != lost or self.cache is None:
                    return
                if bytes(self.cache) == content:
                    return
            time.sleep(0.02)
        differing = [slot for slot in range(SLOTS) if slot_of(cached, slot) != slot_of(content, slot)]
        raise Violation(
            f"log {self.log} {self.generation}: a lease calls a cache valid for {GRACE} s whose slots {differing[:8]} "
            "differ from the server's, and no break came"
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


class Worker:
    def __init__(self, site, oracle, number, workers, seed):
        self.site, self.oracle = site, oracle
        self.number, self.workers = number, workers
        self.random = random.Random(seed)
        self.share = Share(site)
        self.kept = []
        # The next of the worker's slots in each log, counted over generations.
        self.next_slot = {}
        self.own = {}
        self.made = 0
        self.seen = []
        self.puts = 0
        self.cuts = 0
        self.breaks_seen = 0

    def run(self):
        work = [
            (self.write, 30),
            (self.read, 28),
            (self.audit, 5),
            (self.let_go, 3),
            (self.add, 12),
            (self.sole, 4),
            (self.look, 4),
            (self.make, 5),
            (self.move, 6),
            (self.drop, 4),
            (self.list, 6),
            (self.stat, 5),
            (self.claim, 3),
            (self.put, 3),
            (self.get, 4),
            (self.cut, 0.3),
        ]
        functions, weights = [function for function, _ in work], [weight for _, weight in work]
        try:
            while True:
                self.random.choices(functions, weights)[0]()
                self.share.check()
        except Stop:
            pass
        for file in self.kept:
            if file.unpark():
                file.close()
        self.oracle.tell("idle")
        self.final_checks()
        self.breaks_seen += self.share.breaks_seen
        self.share.leave()
        self.oracle.tell("bye", f"{self.breaks_seen} breaks, {self.cuts} connections cut")

    def attempt(self, operation, *words):
        """Runs what may be refused. Returns whether it wasn't."""
        try:
            result = operation(*words)
        except SMBResponseException as error:
            self.oracle.end("refused", f"{error.status:#010x}")
            return False
        self.oracle.end("ok", *(() if result is None else result))
        return True

    # Logs: every slot is written once, by the worker whose it is.

    def cached(self, log, generation):
        for file in list(self.kept):
            if not file.unpark():
                self.kept.remove(file)
            elif (file.log, file.generation) == (log, generation):
                return file
        return None

    def write(self):
        log = self.random.randrange(2)
        per_generation = SLOTS // self.workers
        count = self.next_slot.get(log, 0)
        generation, slot = count // per_generation, count % per_generation * self.workers + self.number
        self.next_slot[log] = count + 1
        self.oracle.begin("write", log, generation, slot)
        data = record(log, generation, slot, self.number)
        self.attempt(self.write_slot, log, generation, slot, data)

    def write_slot(self, log, generation, slot, data):
        file = self.cached(log, generation)
        if file is not None and self.random.random() < 0.7:
            return file.write(slot, data)
        if file is None and self.random.random() < 0.5:
            file = self.keep(log, generation)
            return file.write(slot, data)
        share = self.random.choice([SHARE_ALL, SHARE_ALL, SHARE_ALL, SHARE_READ])
        file = self.share.open(
            f"logs\\{log}-{generation}", WRITE_ACCESS, share, CreateDisposition.FILE_OPEN_IF
        )
        file.write(data, slot * SLOT_SIZE)
        return file.close() and None

    def keep(self, log, generation):
        while len(self.kept) >= KEPT_MAX:
            file = self.kept.pop(self.random.randrange(len(self.kept)))
            if file.unpark():
                file.close()
        file = CachedLog(self.share, log, generation, self.random.choice(LEASES))
        self.kept.append(file)
        return file

    def read(self):
        log = self.random.randrange(2)
        generation = max(self.next_slot.get(log, 0) // (SLOTS // self.workers) - (self.random.random() < 0.1), 0)
        self.read_log(log, generation)

    def read_log(self, log, generation, cached=True):
        file = self.cached(log, generation) if cached else None
        self.oracle.begin("read", log, generation)
        self.attempt(self.read_slots, log, generation, file)

    def read_slots(self, log, generation, file):
        cached = False
        if file is not None:
            content, cached = file.read()
        else:
            file = self.share.open(f"logs\\{log}-{generation}", READ_ACCESS, disposition=CreateDisposition.FILE_OPEN_IF)
            content = read_whole(file)
            file.close()
        found = bytearray(SLOTS // 8)
        torn = []
        for slot in range(SLOTS):
            data = slot_of(content, slot)
            if data == NOTHING:
                continue
            if data == record(log, generation, slot, slot % self.workers):
                found[slot // 8] |= 1 << slot % 8
            else:
                torn.append(slot)
        return "cached" if cached else "direct", found.hex(), *torn

    def audit(self):
        if self.kept:
            file = self.random.choice(self.kept)
            if file.unpark():
                file.audit()

    def let_go(self):
        """Closes a log, or seems to."""
        if not self.kept:
            return
        file = self.random.choice(self.kept)
        if not file.unpark():
            self.kept.remove(file)
        elif self.random.random() < 0.5 or not file.park():
            self.kept.remove(file)
            file.close()

    # Counters: read, added to and written back while nobody else may.

    def add(self):
        cell = self.random.randrange(8)
        at_once = self.random.random() < 0.5
        self.oracle.begin("add", cell)
        self.attempt(self.add_under_lock, cell, at_once)

    def add_under_lock(self, cell, at_once):
        file = self.share.open("cells", READ_ACCESS | WRITE_ACCESS)
        try:
            offset = cell * CELL_SIZE
            flags = LockFlags.SMB2_LOCKFLAG_EXCLUSIVE_LOCK
            if at_once:
                flags |= LockFlags.SMB2_LOCKFLAG_FAIL_IMMEDIATELY
            lock(file, offset, CELL_SIZE, flags)
            value = int(file.read(offset, CELL_SIZE)) + 1
            file.write(cell_content(value), offset)
            # Closing unlocks, too.
            if self.random.random() < 0.7:
                lock(file, offset, CELL_SIZE, LockFlags.SMB2_LOCKFLAG_UNLOCK)
        finally:
            file.close()
        return (value,)

    def sole(self):
        self.oracle.begin("add", "sole")
        self.attempt(self.add_alone)

    def add_alone(self):
        file = self.share.open("sole", READ_ACCESS | WRITE_ACCESS, SHARE_NONE)
        try:
            value = int(file.read(0, CELL_SIZE)) + 1
            self.share.set_information(file, 20, struct.pack("<Q", 0))
            file.write(cell_content(value), 0)
        finally:
            file.close()
        return (value,)

    def look(self, cell=None):
        cell = self.random.choice([*range(8), "sole"]) if cell is None else cell
        self.oracle.begin("look", cell)
        self.attempt(self.look_at, cell)

    def look_at(self, cell):
        name, offset = ("sole", 0) if cell == "sole" else ("cells", int(cell) * CELL_SIZE)
        file = self.share.open(name, READ_ACCESS)
        try:
            return "direct", int(file.read(offset, CELL_SIZE))
        finally:
            file.close()

    # Names: each has one worker who makes, moves and drops it, and is seen by all.

    def make(self):
        if len(self.own) >= 12:
            return
        name, directory = f"w{self.number}-{self.made}", self.random.randrange(4)
        self.made += 1
        self.oracle.begin("make", name, directory)
        if self.attempt(lambda: self.create_new(f"names\\{directory}\\{name}")):
            self.own[name] = directory

    def create_new(self, path):
        self.share.open(path, READ_ACCESS | WRITE_ACCESS, disposition=CreateDisposition.FILE_CREATE).close()

    def move(self):
        if not self.own:
            return
        name, directory = self.random.choice(list(self.own)), self.random.randrange(4)
        if self.own[name] == directory:
            return
        self.oracle.begin("move", name, directory)
        if self.attempt(self.rename, rf"names\{self.own[name]}\{name}", rf"names\{directory}\{name}"):
            self.own[name] = directory

    def rename(self, path, target, replace=False):
        file = self.share.open(path, DELETE_ACCESS)
        try:
            self.share.rename(file, target, replace)
        finally:
            file.close()

    def drop(self):
        if not self.own:
            return
        name = self.random.choice(list(self.own))
        self.oracle.begin("drop", name)
        if self.attempt(self.remove, rf"names\{self.own[name]}\{name}"):
            del self.own[name]

    def remove(self, path):
        if self.random.random() < 0.5:
            options = CreateOptions.FILE_DELETE_ON_CLOSE
            self.share.open(path, DELETE_ACCESS, options=options).close()
            return
        file = self.share.open(path, DELETE_ACCESS)
        try:
            self.share.set_information(file, 13, b"\1")
        finally:
            file.close()

    def list(self, directory=None):
        directory = self.random.randrange(4) if directory is None else directory
        self.oracle.begin("list", directory)
        self.attempt(self.list_directory, directory)

    def list_directory(self, directory):
        file = self.share.open(rf"names\{directory}", READ_ACCESS, options=CreateOptions.FILE_DIRECTORY_FILE)
        names = []
        try:
            while True:
                entries = file.query_directory("*", FileInformationClass.FILE_NAMES_INFORMATION, flags=0)
                names += [entry["file_name"].get_value().decode("utf-16-le") for entry in entries]
        except SMBResponseException as error:
            if error.status != NO_MORE_FILES:
                raise
        finally:
            file.close()
        names = [name for name in names if name not in (".", "..")]
        self.seen = [(directory, name) for name in names] or self.seen
        return "direct", *names

    def stat(self):
        if not self.seen:
            return
        directory, name = self.random.choice(self.seen)
        self.oracle.begin("stat", name, directory)
        try:
            self.share.open(rf"names\{directory}\{name}", LOOK_ACCESS).close()
        except SMBResponseException as error:
            if error.status in (OBJECT_NAME_NOT_FOUND, DELETE_PENDING):
                return self.oracle.end("absent", "direct")
            return self.oracle.end("refused", f"{error.status:#010x}")
        self.oracle.end("ok", "direct")

    def claim(self):
        (number,) = self.oracle.begin("claim")
        try:
            self.create_new(rf"prizes\{number}")
        except SMBResponseException as error:
            if error.status == OBJECT_NAME_COLLISION:
                return self.oracle.end("exists", number)
            return self.oracle.end("refused", f"{error.status:#010x}")
        self.oracle.end("ok", number)

    # A file that each replaces as a whole.

    def put(self):
        self.puts += 1
        value = f"{self.number}:{self.puts}"
        self.oracle.begin("put", value)
        self.attempt(self.replace, value)

    def replace(self, value):
        path = rf"registers\t{self.number}"
        file = self.share.open(path, READ_ACCESS | WRITE_ACCESS, disposition=CreateDisposition.FILE_OVERWRITE_IF)
        file.write(value.ljust(CELL_SIZE).encode(), 0)
        file.close()
        found = self.read_register(path)
        if found != value:
            raise Violation(f"{value} was written to {path} and acknowledged; {found!r} is there")
        self.rename(path, r"registers\register", replace=True)

    def read_register(self, path):
        file = self.share.open(path, READ_ACCESS)
        try:
            return file.read(0, CELL_SIZE).decode().strip()
        finally:
            file.close()

    def get(self):
        self.oracle.begin("get")
        self.attempt(lambda: ("direct", self.read_register(r"registers\register")))

    def cut(self):
        """Loses the connection with whatever is under way, and comes back as another client."""
        for file in self.kept:
            with file.mutex:
                # Nothing that comes now is acknowledged.
                file.state, lost = 0, dict(file.dirty)
            for slot in lost:
                self.oracle.tell("abandon", file.log, file.generation, slot)
        self.kept = []
        if self.random.random() < 0.5:
            create, _ = Open(self.share.tree, log_name(0, 0)).create(
                ImpersonationLevel.Impersonation,
                READ_ACCESS,
                0,
                SHARE_ALL,
                CreateDisposition.FILE_OPEN_IF,
                0,
                send=False,
            )
            self.share.send(create)
        self.share.cut()
        self.breaks_seen += self.share.breaks_seen
        self.cuts += 1
        self.share = Share(self.site)

    def final_checks(self):
        checks = []
        while True:
            words = self.oracle.hear()
            if words == ["."]:
                break
            checks.append(words)
        for what, *words in checks:
            if what == "read":
                self.read_log(*map(int, words), cached=False)
            elif what == "list":
                self.list(int(words[0]))
            elif what == "look":
                self.look(words[0])
            elif what == "get":
                self.get()


def cell_content(value):
    return str(value).ljust(CELL_SIZE).encode()


def lock(file, offset, length, flags):
    element = SMB2LockElement()
    element["offset"] = offset
    element["length"] = length
    element["flags"] = flags
    file.lock([element])


class Site:
    def __init__(self, host, port, share, encrypt):
        self.host, self.port, self.share, self.encrypt = host, port, share, encrypt
        self.user, self.password = os.environ["SMB_USER"], os.environ["SMB_PASSWORD"]


def main():
    host, port, share, protection, oracle_port, client, number, workers, seed = sys.argv[1:]
    oracle = Oracle(int(oracle_port), number, client)
    site = Site(host, int(port), share, protection == "encrypt")
    try:
        Worker(site, oracle, int(number), int(workers), int(seed)).run()
    except Stop:
        pass
    except Violation as error:
        oracle.tell("violation", str(error))
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        oracle.tell("broken", repr(error).replace("\n", " "))
        sys.exit(1)


main()
