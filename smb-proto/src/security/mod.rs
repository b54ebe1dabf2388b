//! Who may do what: SIDs, access control lists, security descriptors, their inheritance, and the check itself
//! (MS-DTYP 2.4, 2.5.3).
//!
//! Deliberately not done: central access policies (MS-DTYP 2.5.3.1.4), conditions of callback entries
//! (2.5.3.1.5) and the mandatory integrity check (2.5.3.3); [`mod@access_check`] says what happens to each.

pub mod access_check;
pub mod acl;
pub mod descriptor;
pub mod inherit;
pub mod sid;

pub use access_check::{AccessDenied, Privileges, Token, access_check};
pub use acl::{Ace, AceBody, AceFlags, AceType, Acl};
pub use descriptor::{Control, SecurityDescriptor, SecurityInformation};
pub use inherit::NewObject;
pub use sid::Sid;
