//! Shares and the volumes behind them, over the reloads of a server's life.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use smb_proto::rpc::srvsvc::ShareType;
use smb_proto::rpc::{ServerDescription, ShareDescription};
use smb_proto::security::Sid;
use smb_proto::{FileTime, Name};
use smb_state::config::{Allowed, Share};
use smb_state::ids::{ShareId, VolumeId};
use smb_state::storage::{Requester, VolumeCaps};
use storage::driver::{Driver, Offload};
use storage::pipes::{PipeEnvironment, Pipes};
use storage::posix::{Posix, PosixOptions};
use storage::table::VolumeTable;

use crate::config::ShareSettings;
use crate::failure::{About, Outcome};

const IPC_SHARE: ShareId = ShareId(0);
const IPC_VOLUME: VolumeId = VolumeId(0);

/// SHI1005_FLAGS_ACCESS_BASED_DIRECTORY_ENUM (MS-SRVS 2.2.4.29).
const ACCESS_BASED_DIRECTORY_ENUM: u32 = 0x0800;

/// Gives shares and volumes their numbers. A share keeps its number as long as the server runs, also while it is gone;
/// a volume stays open, because opens on it may outlive its share.
pub(crate) struct Site {
    volumes: Arc<VolumeTable>,
    offload: Arc<dyn Offload>,
    pipe_caps: VolumeCaps,
    facts: Arc<Facts>,
    account_domain: Sid,
    shares: BTreeMap<Name, ShareId>,
    by_path: BTreeMap<PathBuf, (VolumeId, VolumeCaps)>,
}

impl Site {
    pub(crate) fn new(server_name: &str, account_domain: Sid, offload: Arc<dyn Offload>) -> Self {
        let volumes = Arc::new(VolumeTable::new());
        let facts = Arc::new(Facts::new(server_name));
        let pipes = Pipes::new(Arc::clone(&facts) as _);
        let pipe_caps = pipes.caps();
        volumes.insert(IPC_VOLUME, Arc::new(pipes));
        let (shares, by_path) = (BTreeMap::new(), BTreeMap::new());
        Self { volumes, offload, pipe_caps, facts, account_domain, shares, by_path }
    }

    /// The volumes, also those that are added later.
    pub(crate) fn volumes(&self) -> Arc<VolumeTable> {
        Arc::clone(&self.volumes)
    }

    /// The shares that `settings` ask for, and IPC$. Nothing changes unless all of them can be had.
    pub(crate) fn shares(&mut self, settings: &[ShareSettings]) -> Outcome<Vec<Share>> {
        let mut paths = Vec::new();
        for share in settings {
            paths.push(share.path.canonicalize().about(format!(
                "share {}: {}",
                share.name,
                share.path.display()
            ))?);
        }
        let missing: BTreeMap<&PathBuf, bool> = paths
            .iter()
            .zip(settings.iter().map(|share| share.follow_symlinks))
            .filter(|(path, _)| !self.by_path.contains_key(*path))
            .collect();
        let mut opened = Vec::new();
        for (path, follows_links) in missing {
            opened.push((path.clone(), self.open(path, follows_links)?));
        }
        for (path, driver) in opened {
            let id = VolumeId(u32::try_from(self.by_path.len() + 1).unwrap_or(u32::MAX));
            self.by_path.insert(path, (id, driver.caps()));
            self.volumes.insert(id, driver);
        }
        let mut shares = vec![self.ipc()];
        for (share, path) in settings.iter().zip(&paths) {
            let Some((volume, caps)) = self.by_path.get(path).copied() else { continue };
            let name = Name::from(share.name.as_str());
            let next = ShareId(u32::try_from(self.shares.len() + 1).unwrap_or(u32::MAX));
            let id = *self.shares.entry(name.folded()).or_insert(next);
            shares.push(Share {
                id,
                name,
                volume,
                caps,
                read_only: share.read_only,
                encrypted: share.encrypt,
                access_based: share.access_based,
                continuous_availability: share.continuous_availability,
                allowed: match &share.users {
                    Some(users) => Allowed::Named(users.iter().map(|user| user.as_str().into()).collect()),
                    None if share.guests => Allowed::Everyone,
                    None => Allowed::Users,
                },
            });
        }
        self.facts.set_shares(&shares);
        Ok(shares)
    }

    fn open(&self, path: &Path, follows_links: bool) -> Outcome<Arc<dyn Driver>> {
        let options = PosixOptions {
            follows_links,
            account_domain: Some(self.account_domain),
            ..PosixOptions::default()
        };
        let driver = Posix::new(path, options, Arc::clone(&self.offload)).about_path(path)?;
        #[cfg(feature = "seeded-faults")]
        let driver = crate::seeded::Forgetful::new(driver);
        Ok(Arc::new(driver))
    }

    /// The share of named pipes, for everyone who has logged on.
    fn ipc(&self) -> Share {
        Share {
            id: IPC_SHARE,
            name: Name::from("IPC$"),
            volume: IPC_VOLUME,
            caps: self.pipe_caps,
            read_only: false,
            encrypted: false,
            access_based: false,
            continuous_availability: None,
            allowed: Allowed::Everyone,
        }
    }
}

/// What RPC services tell. Shares are told to whoever has logged on, also those that only others may connect to.
struct Facts(RwLock<Arc<ServerDescription>>);

impl Facts {
    fn new(server_name: &str) -> Self {
        let description = ServerDescription {
            server_name: Name::from(server_name),
            domain: Name::from("WORKGROUP"),
            // Clients judge by it what they may ask for: Windows 10 and Server 2016 on.
            version_major: 10,
            version_minor: 0,
            ..ServerDescription::default()
        };
        Self(RwLock::new(Arc::new(description)))
    }

    fn set_shares(&self, shares: &[Share]) {
        let mut description = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut description).shares = shares.iter().map(describe).collect();
    }
}

fn describe(share: &Share) -> ShareDescription {
    let kind = if share.caps.pipes { ShareType::IPC.with(ShareType::SPECIAL) } else { ShareType::DISK };
    let flags = if share.access_based { ACCESS_BASED_DIRECTORY_ENUM } else { 0 };
    ShareDescription { name: share.name.clone(), kind, flags, ..ShareDescription::default() }
}

impl PipeEnvironment for Facts {
    fn description(&self, _: &Requester) -> Arc<ServerDescription> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> FileTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
    }
}

#[cfg(test)]
mod tests {
    use storage::offload::Inline;

    use super::*;

    fn share(name: &str, path: &Path) -> ShareSettings {
        ShareSettings {
            name: name.into(),
            path: path.into(),
            read_only: false,
            encrypt: false,
            access_based: false,
            follow_symlinks: false,
            continuous_availability: None,
            guests: false,
            users: None,
        }
    }

    #[test]
    fn shares_keep_their_numbers_over_reloads() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut site = Site::new("TEST", Sid::BUILTIN_USERS, Arc::new(Inline));
        let before = site.shares(&[share("a", one.path()), share("b", one.path())]).unwrap();
        assert_eq!(before[0].id, IPC_SHARE);
        assert!(before[0].caps.pipes && !before[1].caps.pipes);
        assert_eq!(
            before[1].volume, before[2].volume,
            "one directory is one volume, or its locks would not meet"
        );
        let after = site.shares(&[share("B", two.path()), share("c", one.path())]).unwrap();
        assert_eq!(after[1].id, before[2].id);
        assert!(before.iter().all(|share| share.id != after[2].id));
        assert_ne!(after[1].volume, before[1].volume);
        assert_eq!(after[2].volume, before[1].volume);
        let back = site.shares(&[share("a", one.path())]).unwrap();
        assert_eq!(back[1].id, before[1].id);
    }

    #[test]
    fn a_directory_that_is_gone_changes_nothing() {
        let one = tempfile::tempdir().unwrap();
        let mut site = Site::new("TEST", Sid::BUILTIN_USERS, Arc::new(Inline));
        let failure =
            site.shares(&[share("a", one.path()), share("b", Path::new("/nowhere/at/all"))]).unwrap_err();
        assert!(failure.to_string().contains("share b: /nowhere/at/all"), "{failure}");
        assert!(site.by_path.is_empty() && site.shares.is_empty());
    }
}
