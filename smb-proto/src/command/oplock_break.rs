//! OPLOCK_BREAK, of oplocks and of leases (MS-SMB2 2.2.23 to 2.2.25).
