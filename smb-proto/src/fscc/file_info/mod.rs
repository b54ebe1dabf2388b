//! What is queried and set of a file (MS-FSCC 2.4).
//!
//! Deliberately not done: classes that are only used on one machine, and listings ([`super::directory`]).

mod query;
mod set;
mod structures;

pub use query::FileInformation;
pub use set::{DispositionFlags, RenameFlags, RenameInformation, SetFileInformation};
pub use structures::{
    AllInformation, AttributeTagInformation, BasicInformation, CompressionInformation, IdInformation, Mode,
    NetworkOpenInformation, PipeInformation, PipeLocalInformation, PipeRemoteInformation,
    StandardInformation, StandardLinkInformation,
};
