"""One of the storm's clients: seeded random work over a connection with caches.

The storm's oracle is asked before each operation and told its end; it alone judges. This end judges only what the
oracle can't see: that a cache which a lease calls valid holds what the server holds.
"""

import hashlib
import os
import random
import socket
import struct
import sys
import traceback

from smbprotocol.exceptions import SMBResponseException
from smbprotocol.open import CreateDisposition, CreateOptions, ImpersonationLevel, LockFlags, Open, SMB2LockElement

from storm_share import (
    READ_ACCESS,
    SHARE_ALL,
    SLOT_SIZE,
    SLOTS,
    WRITE_ACCESS,
    CachedDirectory,
    CachedLog,
    H,
    R,
    Share,
    Violation,
    W,
    list_names,
    log_name,
    read_whole,
    slot_of,
)

OBJECT_NAME_NOT_FOUND = 0xC0000034
OBJECT_NAME_COLLISION = 0xC0000035
DELETE_PENDING = 0xC0000056

LEASES = [R | W | H, R | W | H, R | H, R | H, R, 0]

DELETE_ACCESS = 0x00110080
LOOK_ACCESS = 0x00100080

SHARE_READ = 1
SHARE_NONE = 0

CELL_SIZE = 64
NOTHING = bytes(SLOT_SIZE)
KEPT_MAX = 4


class Stop(Exception):
    """The storm is over."""


def record(log, generation, slot, worker):
    """What a slot holds once its worker has written it."""
    head = f"log {log} {generation} slot {slot} by {worker} "
    digest = hashlib.sha256(head.encode()).hexdigest()
    return (head + digest)[: SLOT_SIZE - 1].encode() + b"\n"


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
        wanted = (log, generation)
        return self.find_kept(lambda file: isinstance(file, CachedLog) and (file.log, file.generation) == wanted)

    def find_kept(self, wanted):
        for file in list(self.kept):
            if not file.unpark():
                self.kept.remove(file)
            elif wanted(file):
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
            file = self.keep(lambda: CachedLog(self.share, log, generation, self.random.choice(LEASES)))
            return file.write(slot, data)
        share = self.random.choice([SHARE_ALL, SHARE_ALL, SHARE_ALL, SHARE_READ])
        file = self.share.open(
            f"logs\\{log}-{generation}", WRITE_ACCESS, share, CreateDisposition.FILE_OPEN_IF
        )
        file.write(data, slot * SLOT_SIZE)
        return file.close() and None

    def keep(self, open_it):
        while len(self.kept) >= KEPT_MAX:
            file = self.kept.pop(self.random.randrange(len(self.kept)))
            if file.unpark():
                file.close()
        file = open_it()
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
        """Closes what is kept open, or seems to."""
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
        last = directory is not None
        directory = self.random.randrange(4) if directory is None else directory
        self.oracle.begin("list", directory)
        self.attempt(self.list_directory, directory, last)

    def list_directory(self, directory, last):
        cached = False
        kept = self.find_kept(lambda file: isinstance(file, CachedDirectory) and file.number == directory)
        if kept is None and not last and self.random.random() < 0.5:
            kept = self.keep(lambda: CachedDirectory(self.share, directory, self.random.choice([R | H, R])))
        if kept is not None:
            names, cached = kept.read()
        else:
            file = self.share.open(rf"names\{directory}", READ_ACCESS, options=CreateOptions.FILE_DIRECTORY_FILE)
            try:
                names = list_names(file)
            finally:
                file.close()
        self.seen = [(directory, name) for name in names] or self.seen
        return "cached" if cached else "direct", *names

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
                file.state, lost = 0, dict(file.dirty) if isinstance(file, CachedLog) else {}
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
