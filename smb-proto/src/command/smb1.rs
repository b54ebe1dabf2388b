//! The one SMB1 message that a server of SMB 2 answers: NEGOTIATE (MS-SMB 2.2.4.52, MS-SMB2 3.3.5.3).
