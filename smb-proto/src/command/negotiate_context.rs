//! Contexts of NEGOTIATE (MS-SMB2 2.2.3.1, 2.2.4.1).
