"""Writes, reads, lists, renames, deletes and shares files with the client impacket.

Usage: impacket_check.py HOST PORT SHARE DIALECT sign|encrypt, with SMB_USER and SMB_PASSWORD in the environment.
Prints OK last when everything held.
"""

import io
import os
import sys

from impacket.smb3structs import (
    SMB2_DIALECT_002,
    SMB2_DIALECT_21,
    SMB2_DIALECT_30,
    SMB2_DIALECT_311,
    SMB2_SESSION_FLAG_ENCRYPT_DATA,
)
from impacket.smbconnection import SessionError, SMBConnection
from impacket_sharing import use_shared_files

DIALECTS = {"2.0.2": SMB2_DIALECT_002, "2.1": SMB2_DIALECT_21, "3.0": SMB2_DIALECT_30, "3.1.1": SMB2_DIALECT_311}


def main(host, port, share, dialect, protection):
    def connect():
        return log_in(host, int(port), DIALECTS[dialect], protection)

    client = connect()
    check(share in [entry["shi1_netname"][:-1] for entry in client.listShares()], "the share isn't listed")
    use_files(client, share, f"impacket-{dialect}-{protection}")
    client.logoff()
    client.close()
    use_shared_files(connect, share, DIALECTS[dialect], f"impacket-{dialect}-{protection}-sharing")
    print("OK")


def log_in(host, port, dialect, protection):
    client = SMBConnection(host, host, sess_port=port, preferredDialect=dialect)
    check(client.getDialect() == dialect, f"negotiated {client.getDialect():#x}")
    # impacket encrypts whenever the server can and signs only when the server insists; both are decided at login
    # from what was negotiated, and it has no interface to choose.
    negotiated = client.getSMBServer()._Connection
    if protection == "encrypt":
        check(negotiated["SupportsEncryption"], "the server doesn't offer encryption")
    else:
        negotiated["SupportsEncryption"] = False
        negotiated["RequireSigning"] = True
    client.login(os.environ["SMB_USER"], os.environ["SMB_PASSWORD"])
    session = client.getSMBServer()._Session
    encrypts = bool(session["SessionFlags"] & SMB2_SESSION_FLAG_ENCRYPT_DATA)
    check(encrypts == (protection == "encrypt"), "the session's encryption")
    check(encrypts or session["SigningActivated"], "the session isn't signed")
    return client


def use_files(client, share, base):
    client.createDirectory(share, base)
    for size in (0, 1, 65536, 1024 * 1024 + 7):
        content = os.urandom(size)
        client.putFile(share, rf"{base}\file {size}.bin", io.BytesIO(content).read)
        received = io.BytesIO()
        client.getFile(share, rf"{base}\file {size}.bin", received.write)
        check(received.getvalue() == content, f"{size} bytes differ")

    check(listed(client, share, base) == ["file 0.bin", "file 1.bin", "file 1048583.bin", "file 65536.bin"], "listed")
    sizes = {file.get_longname(): file.get_filesize() for file in client.listPath(share, rf"{base}\*")}
    check(sizes["file 1048583.bin"] == 1048583, f"listed sizes {sizes}")
    client.rename(share, rf"{base}\file 1.bin", rf"{base}\𝄞 renamed")
    check("𝄞 renamed" in listed(client, share, base), "the new name isn't listed")
    check("file 1.bin" not in listed(client, share, base), "the old name is still listed")
    try:
        client.deleteDirectory(share, base)
        check(False, "a directory with entries was removed")
    except SessionError as error:
        check(error.getErrorCode() == 0xC0000101, f"removing a directory with entries: {error}")
    for name in listed(client, share, base):
        client.deleteFile(share, rf"{base}\{name}")
    client.deleteDirectory(share, base)
    try:
        client.listPath(share, rf"{base}\*")
        check(False, "the directory is still there")
    except SessionError as error:
        check(error.getErrorCode() in (0xC0000034, 0xC000000F, 0xC000003A), f"listing what is gone: {error}")


def listed(client, share, base):
    names = [file.get_longname() for file in client.listPath(share, rf"{base}\*")]
    return sorted(name for name in names if name not in (".", ".."))


def check(holds, complaint):
    if not holds:
        raise AssertionError(complaint)


if __name__ == "__main__":
    main(*sys.argv[1:])
