"""Writes, reads, lists, renames, deletes and shares files with the client smbprotocol.

Usage: smbprotocol_check.py HOST PORT SHARE DIALECT sign|encrypt, with SMB_USER and SMB_PASSWORD in the environment.
Prints OK last when everything held.
"""

import os
import sys
import uuid

import smbclient
from smbprotocol import Dialects
from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBOSError
from smbprotocol_sharing import use_shared_files

DIALECTS = {
    "2.0.2": Dialects.SMB_2_0_2,
    "2.1": Dialects.SMB_2_1_0,
    "3.0": Dialects.SMB_3_0_0,
    "3.0.2": Dialects.SMB_3_0_2,
    "3.1.1": Dialects.SMB_3_1_1,
}


def main(host, port, share, dialect, protection):
    port = int(port)
    connection = Connection(uuid.uuid4(), host, port, require_signing=True)
    connection.connect(DIALECTS[dialect])
    check(connection.dialect == DIALECTS[dialect], f"negotiated {connection.dialect:#x}")
    cache = {f"{host.lower()}:{port}": connection}
    session = smbclient.register_session(
        host,
        username=os.environ["SMB_USER"],
        password=os.environ["SMB_PASSWORD"],
        port=port,
        encrypt=protection == "encrypt",
        connection_cache=cache,
    )
    check(session.encrypt_data == (protection == "encrypt"), "the session's encryption")
    check(session.signing_required or protection == "encrypt", "the session isn't signed")
    name = f"smbprotocol-{dialect}-{protection}"
    try:
        use_files(rf"\\{host}\{share}\{name}", {"port": port, "connection_cache": cache})
        use_shared_files(host, port, share, DIALECTS[dialect], protection == "encrypt", f"{name}-sharing")
        smbclient.rmdir(rf"\\{host}\{share}\{name}-sharing", port=port, connection_cache=cache)
    finally:
        smbclient.reset_connection_cache(connection_cache=cache)
    print("OK")


def use_files(base, where):
    smbclient.mkdir(base, **where)
    for size in (0, 1, 65536, 3 * 1024 * 1024 + 7):
        content = os.urandom(size)
        with smbclient.open_file(rf"{base}\file {size}.bin", mode="wb", **where) as file:
            file.write(content)
        with smbclient.open_file(rf"{base}\file {size}.bin", mode="rb", **where) as file:
            check(file.read() == content, f"{size} bytes differ")
        check(smbclient.stat(rf"{base}\file {size}.bin", **where).st_size == size, f"size of {size} bytes")

    names = sorted(smbclient.listdir(base, **where))
    check(names == ["file 0.bin", "file 1.bin", "file 3145735.bin", "file 65536.bin"], f"listed {names}")
    smbclient.rename(rf"{base}\file 1.bin", rf"{base}\𝄞 renamed", **where)
    check("𝄞 renamed" in smbclient.listdir(base, **where), "the new name isn't listed")
    check("file 1.bin" not in smbclient.listdir(base, **where), "the old name is still listed")
    smbclient.mkdir(rf"{base}\folder", **where)
    try:
        smbclient.rmdir(base, **where)
        check(False, "a directory with entries was removed")
    except SMBOSError as error:
        check(error.ntstatus == 0xC0000101, f"removing a directory with entries: {error}")
    smbclient.rmdir(rf"{base}\folder", **where)
    for name in smbclient.listdir(base, **where):
        smbclient.remove(rf"{base}\{name}", **where)
    smbclient.rmdir(base, **where)
    try:
        smbclient.listdir(base, **where)
        check(False, "the directory is still there")
    except SMBOSError as error:
        check(error.ntstatus in (0xC0000034, 0xC000000F), f"listing a directory that is gone: {error}")


def check(holds, complaint):
    if not holds:
        raise AssertionError(complaint)


if __name__ == "__main__":
    main(*sys.argv[1:])
