//! What breaking rights leads to, for the file to carry out.

use smb_proto::create_context::LeaseState;

use super::Notice;
use crate::ids::{OpenId, SessionId};

/// What breaking rights leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Breaks {
    /// To be told, to the session of that open.
    pub(crate) notices: Vec<(SessionId, OpenId, Notice)>,
    /// Opens that were granted during a break, and what is held now that it has ended.
    pub(crate) settled: Vec<(SessionId, OpenId, LeaseState)>,
    /// Acknowledgments to wait for.
    pub(crate) begun: Vec<u32>,
    /// Acknowledgments that are no longer waited for.
    pub(crate) ended: Vec<u32>,
    /// Preserved opens that go, because their client can't be told.
    pub(crate) lost: Vec<OpenId>,
    /// Opens whose records say what is not held any more.
    pub(crate) behind: Vec<OpenId>,
}

impl Breaks {
    /// Whether nothing is led to, as by nearly all that is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.notices.is_empty()
            && self.settled.is_empty()
            && self.begun.is_empty()
            && self.ended.is_empty()
            && self.lost.is_empty()
            && self.behind.is_empty()
    }
}
