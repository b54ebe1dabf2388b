"""Writes, reads, lists, renames, deletes and shares files with the client smbprotocol.

Usage: smbprotocol_check.py HOST PORT SHARE DIALECT sign|encrypt, with SMB_USER and SMB_PASSWORD in the environment, and
SMB_LINKS=no for a server on which clients make no symbolic links.
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
    if os.environ.get("SMB_LINKS") != "no":
        use_links(base, where)
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


def use_links(base, where):
    """Symbolic links of files and directories: the server shows them, the client follows."""
    smbclient.mkdir(rf"{base}\target", **where)
    with smbclient.open_file(rf"{base}\target\file", mode="wb", **where) as file:
        file.write(b"behind the link")
    smbclient.symlink(r"target\file", rf"{base}\to file", **where)
    smbclient.symlink("target", rf"{base}\to directory", target_is_directory=True, **where)
    smbclient.symlink(r"..\target\nothing", rf"{base}\target\to nothing", **where)
    for name, target in [("to file", r"target\file"), ("to directory", "target")]:
        check(smbclient.path.islink(rf"{base}\{name}", **where), f"{name} is no link")
        told = smbclient.readlink(rf"{base}\{name}", **where)
        check(told.endswith(target), f"{name} leads to {told}")
    links = [entry.name for entry in smbclient.scandir(base, **where) if entry.is_symlink()]
    check(sorted(links) == ["to directory", "to file"], f"links are {links}")
    for path in ("to file", r"to directory\file"):
        with smbclient.open_file(rf"{base}\{path}", mode="rb", **where) as file:
            check(file.read() == b"behind the link", f"{path} has other data")
    check("file" in smbclient.listdir(rf"{base}\to directory", **where), "the directory behind the link")
    try:
        smbclient.stat(rf"{base}\target\to nothing", **where)
        check(False, "a link to nothing led somewhere")
    except SMBOSError as error:
        check(error.ntstatus == 0xC0000034, f"a link to nothing: {error}")
    try:
        smbclient.symlink(r"..\..\outside", rf"{base}\out", **where)
        check(False, "a link out of the share was made")
    except SMBOSError as error:
        check(error.ntstatus == 0xC0000022, f"a link out of the share: {error}")
    for name in ("to file", "to directory", r"target\to nothing", "out"):
        smbclient.remove(rf"{base}\{name}", **where)
    smbclient.remove(rf"{base}\target\file", **where)
    smbclient.rmdir(rf"{base}\target", **where)


def check(holds, complaint):
    if not holds:
        raise AssertionError(complaint)


if __name__ == "__main__":
    main(*sys.argv[1:])
