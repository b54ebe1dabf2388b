//! TREE_CONNECT and TREE_DISCONNECT (MS-SMB2 3.3.5.7, 3.3.5.8).

use std::collections::BTreeSet;

use smb_proto::access::AccessMask;
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::tree_connect::{Request, Response, ShareCapabilities, ShareFlags, ShareType};
use smb_proto::{Name, NtStatus};

use super::TreeConnect;
use crate::config::{Allowed, Share};
use crate::event::Identity;
use crate::ids::{OpenId, SessionId, ShareId, TreeId};
use crate::message::{Execution, Finished, Origin};
use crate::request::Protection;
use crate::response::Body;
use crate::shard::{Shard, Turn};

/// Rights that change something.
const CHANGES: AccessMask = AccessMask(
    AccessMask::WRITE_DATA.0
        | AccessMask::APPEND_DATA.0
        | AccessMask::WRITE_EA.0
        | AccessMask::DELETE_CHILD.0
        | AccessMask::WRITE_ATTRIBUTES.0
        | AccessMask::DELETE.0
        | AccessMask::WRITE_DAC.0
        | AccessMask::WRITE_OWNER.0,
);

impl Share {
    /// Most access that anybody can have through the share.
    #[must_use]
    pub fn maximal_access(&self) -> AccessMask {
        if self.read_only || self.caps.read_only {
            AccessMask::FILE_ALL_ACCESS.without(CHANGES)
        } else {
            AccessMask::FILE_ALL_ACCESS
        }
    }

    fn admits(&self, identity: &Identity) -> bool {
        match (&self.allowed, identity) {
            (Allowed::Everyone, _) => true,
            (Allowed::Users, Identity::User { .. }) => true,
            (Allowed::Named(names), Identity::User { name, .. }) => names.contains(name),
            (Allowed::Users | Allowed::Named(_), Identity::Guest | Identity::Anonymous) => false,
        }
    }
}

/// The share's name in `\\server\share`.
fn share_name(path: &Name) -> Option<Name> {
    let backslash = u16::from(b'\\');
    let units = path.units().strip_prefix(&[backslash, backslash])?;
    let slash = units.iter().position(|unit| *unit == backslash)?;
    let share = units.get(slash + 1..)?;
    (slash > 0 && !share.is_empty() && !share.contains(&backslash)).then(|| Name::from_units(share))
}

impl Shard {
    pub(crate) fn on_tree_connect(
        &mut self,
        origin: Origin,
        execution: &Execution,
        request: &Request,
        turn: &mut Turn<'_>,
    ) {
        let (status, tree, body) = match self.connect_tree(origin.session, execution, request) {
            Ok((tree, response)) => (NtStatus::SUCCESS, tree, Body::TreeConnect(response)),
            Err(status) => (status, TreeId(0), Body::Error),
        };
        let origin = Origin { tree, ..origin };
        turn.finish(Finished { origin, status, body, open: None, spent: None });
    }

    fn connect_tree(
        &mut self,
        session: SessionId,
        execution: &Execution,
        request: &Request,
    ) -> Result<(TreeId, Response), NtStatus> {
        let limit = self.limits.tree_connects_per_session_max as usize;
        let session = self.sessions.get_mut(&session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        // 3.1.1 protects the tree connect of every user, so that a tampered negotiation shows here at the latest (S9).
        let unprotected = execution.request.protection == Protection::None;
        if session.terms.dialect == Dialect::SMB_3_1_1 && session.keyed && unprotected {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let name = share_name(&request.path).ok_or(NtStatus::BAD_NETWORK_NAME)?.folded();
        let share =
            self.shares.iter().find(|share| share.name.folded() == name).ok_or(NtStatus::BAD_NETWORK_NAME)?;
        let identity = session.identity.as_ref().ok_or(NtStatus::ACCESS_DENIED)?;
        if !share.admits(identity) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if share.encrypted && !(session.terms.encryption && session.keyed) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if session.trees.len() >= limit {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let tree = TreeId(session.next_tree);
        session.next_tree += 1;
        let maximal_access = share.maximal_access();
        let mut share_flags =
            if share.caps.pipes { ShareFlags::NO_CACHING } else { ShareFlags::MANUAL_CACHING };
        if share.encrypted {
            share_flags = share_flags.with(ShareFlags::ENCRYPT_DATA);
        }
        if share.access_based {
            // As 2.2.10 means it; 3.3.5.7 makes it depend on hashes of contents, which listings have nothing to do with.
            share_flags = share_flags.with(ShareFlags::ACCESS_BASED_DIRECTORY_ENUM);
        }
        session.trees.insert(
            tree,
            TreeConnect {
                share: share.id,
                volume: share.volume,
                caps: share.caps,
                encrypted: share.encrypted,
                access_based: share.access_based,
                maximal_access,
                continuous_availability: share.continuous_availability.filter(|_| session.persistent_handles),
                ending: Vec::new(),
                revoked: false,
            },
        );
        let share_type = if share.caps.pipes { ShareType::PIPE } else { ShareType::DISK };
        let available = share.continuous_availability.is_some() && session.terms.dialect.is_smb3();
        let capabilities =
            if available { ShareCapabilities::CONTINUOUS_AVAILABILITY } else { ShareCapabilities::EMPTY };
        Ok((tree, Response { share_type, share_flags, capabilities, maximal_access }))
    }

    pub(crate) fn on_tree_disconnect(&mut self, origin: Origin, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&origin.session) else { return };
        if let Some(tree) = session.trees.get_mut(&origin.tree) {
            tree.ending.push(origin);
        }
        self.close_tree_opens(origin.session, origin.tree, turn);
    }

    fn close_tree_opens(&mut self, id: SessionId, tree: TreeId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let opens: Vec<OpenId> = session
            .opens
            .iter()
            .copied()
            .filter(|open| self.opens.get(open).is_some_and(|open| open.tree == tree))
            .collect();
        for open in opens {
            self.close_unasked(open, turn);
        }
        self.finish_tree_end(id, tree, turn);
    }

    /// Removes a tree connect that is ending once it has no opens.
    pub(crate) fn finish_tree_end(&mut self, id: SessionId, tree: TreeId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.trees.get(&tree).is_some_and(TreeConnect::is_ending) {
            return;
        }
        let busy =
            session.opens.iter().any(|open| self.opens.get(open).is_some_and(|open| open.tree == tree));
        if busy {
            return;
        }
        if let Some(ended) = session.trees.remove(&tree) {
            for origin in ended.ending {
                let status = NtStatus::SUCCESS;
                turn.finish(Finished { origin, status, body: Body::Empty, open: None, spent: None });
            }
        }
    }

    /// The share table changed: tree connects to what is gone end.
    pub(crate) fn on_shares(&mut self, shares: Vec<Share>, turn: &mut Turn<'_>) {
        self.shares = shares;
        let gone: Vec<(SessionId, TreeId)> = self
            .sessions
            .iter()
            .flat_map(|(id, session)| session.trees.iter().map(|(tree, connect)| (*id, *tree, connect.share)))
            .filter(|(_, _, share)| !self.shares.iter().any(|other| other.id == *share))
            .map(|(session, tree, _)| (session, tree))
            .collect();
        for (session, tree) in gone {
            self.revoke_tree(session, tree, turn);
        }
        let left: BTreeSet<ShareId> = self.shares.iter().map(|share| share.id).collect();
        self.close_preserved(|share| !left.contains(&share), turn);
    }

    /// The administrator ends every tree connect to a share.
    pub(crate) fn on_end_share(&mut self, share: ShareId, turn: &mut Turn<'_>) {
        let ended: Vec<(SessionId, TreeId)> = self
            .sessions
            .iter()
            .flat_map(|(id, session)| session.trees.iter().map(|(tree, connect)| (*id, *tree, connect.share)))
            .filter(|(_, _, other)| *other == share)
            .map(|(session, tree, _)| (session, tree))
            .collect();
        for (session, tree) in ended {
            self.revoke_tree(session, tree, turn);
        }
        self.close_preserved(|other| other == share, turn);
    }

    fn revoke_tree(&mut self, id: SessionId, tree: TreeId, turn: &mut Turn<'_>) {
        if let Some(connect) = self.sessions.get_mut(&id).and_then(|session| session.trees.get_mut(&tree)) {
            connect.revoked = true;
        }
        self.close_tree_opens(id, tree, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_the_second_component() {
        assert_eq!(share_name(&Name::from(r"\\server\share")), Some(Name::from("share")));
        for wrong in
            ["", r"\\", r"\\server", r"\\server\", r"\\\share", r"server\share", r"\\server\share\more"]
        {
            assert_eq!(share_name(&Name::from(wrong)), None, "{wrong}");
        }
    }
}
