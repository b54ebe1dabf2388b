//! One step of an authentication: token in, outcome out (MS-SMB2 3.3.5.5.3). Challenges and keys stay here.

use bytes::Bytes;
use smb_proto::NtStatus;
use smb_proto::auth::acceptor::{Finish, NtlmAcceptor, Step, StepInputs};

use super::{Endpoint, Lookup, Surroundings};
use crate::event::{AuthOutcome, Identity};
use crate::ids::SessionId;

impl Endpoint {
    pub(super) fn authenticate(
        &mut self,
        session: SessionId,
        token: &[u8],
        around: &mut Surroundings<'_>,
    ) -> AuthOutcome {
        let acceptor =
            self.acceptors.entry(session).or_insert_with(|| NtlmAcceptor::new(&self.options.names));
        let mut challenge = [0; 8];
        (around.random)(&mut challenge);
        let step = acceptor.step(token, StepInputs { challenge, now: around.now });
        let refused = AuthOutcome::Denied { status: NtStatus::LOGON_FAILURE };
        let outcome = match step {
            Step::Continue { reply } => {
                return AuthOutcome::Continue { reply: around.buffers.insert(Bytes::from(reply)) };
            }
            Step::Denied { reason } => {
                use smb_proto::auth::acceptor::Denial;
                match reason {
                    Denial::Malformed(_) | Denial::OutOfOrder => {
                        AuthOutcome::Denied { status: NtStatus::INVALID_PARAMETER }
                    }
                    Denial::NoCommonMechanism
                    | Denial::OldResponse
                    | Denial::WrongCredentials
                    | Denial::Expired
                    | Denial::NoSessionKey
                    | Denial::BadMic
                    | Denial::BadMechListMic => refused,
                }
            }
            Step::Anonymous => match around.users.anonymous() {
                Some(identity) => match acceptor.finish(None) {
                    Finish::Accepted { reply, .. } => accepted(reply, identity, false, around),
                    Finish::Denied { .. } => refused,
                },
                None => refused,
            },
            Step::NeedUser { user, domain, .. } => {
                match around.users.look_up(&user, &domain, self.peer) {
                    Lookup::Known { nt_hash, identity } => {
                        let finish = acceptor.finish(Some(&nt_hash));
                        around.users.record(&user, self.peer, matches!(finish, Finish::Accepted { .. }));
                        match finish {
                            Finish::Accepted { reply, session_key, .. } => {
                                self.proofs.insert(session, session_key);
                                accepted(reply, identity, true, around)
                            }
                            Finish::Denied { .. } => refused,
                        }
                    }
                    Lookup::Unknown if around.users.guest().is_some() => {
                        match around.users.guest().zip(acceptor.admit_guest()) {
                            Some((identity, reply)) => accepted(reply, identity, false, around),
                            None => refused,
                        }
                    }
                    Lookup::Unknown => {
                        // The same path as a wrong password, so that time doesn't tell who exists.
                        let _ = acceptor.finish(None);
                        around.users.record(&user, self.peer, false);
                        refused
                    }
                    Lookup::Throttled => refused,
                }
            }
        };
        self.acceptors.remove(&session);
        outcome
    }
}

fn accepted(reply: Vec<u8>, identity: Identity, keyed: bool, around: &Surroundings<'_>) -> AuthOutcome {
    let reply = (!reply.is_empty()).then(|| around.buffers.insert(Bytes::from(reply)));
    AuthOutcome::Accepted { reply, identity, keyed, valid_for_ms: None }
}
