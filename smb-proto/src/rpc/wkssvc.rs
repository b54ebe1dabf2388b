//! Arguments and results of the workstation service's NetrWkstaGetInfo (MS-WKST 2.2.5.1 to 2.2.5.3, 3.2.4.1), in both
//! directions. The arguments are [`GetInfo`].

use super::Win32Error;
use super::ndr::{Kind, Reader, Value, Writer};
use super::srvsvc::{number, text};
use crate::error::Malformed;
use crate::name::Name;

pub use super::srvsvc::GetInfo;

/// Numbers of the methods.
#[allow(missing_docs)]
pub mod opnum {
    pub const WKSTA_GET_INFO: u16 = 0;
}

/// What NetrWkstaGetInfo tells. Members that a level does not have are their defaults after parsing and are not
/// emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WorkstationInfo {
    /// The platform; level 100 on.
    pub platform_id: u32,
    /// The computer's name; level 100 on.
    pub computer_name: Option<Name>,
    /// The domain or workgroup; level 100 on.
    pub domain: Option<Name>,
    /// Major version; level 100 on.
    pub version_major: u32,
    /// Minor version; level 100 on.
    pub version_minor: u32,
    /// Not used, null; level 101 on.
    pub lan_root: Option<Name>,
    /// Users logged on; level 102.
    pub logged_on_users: u32,
}

/// Layout of level 102; levels 100 and 101 are the start of it.
const LAYOUT: [Kind; 7] =
    [Kind::Number, Kind::Text, Kind::Text, Kind::Number, Kind::Number, Kind::Text, Kind::Number];

/// Levels of WKSTA_INFO (MS-WKST 2.2.4.1) whose information is not told or can only be set.
const LEVELS_UNTOLD: [u32; 4] = [502, 1013, 1018, 1046];

fn members(level: u32) -> Option<usize> {
    match level {
        100 => Some(5),
        101 => Some(6),
        102 => Some(LAYOUT.len()),
        _ => None,
    }
}

fn has_arm(level: u32) -> bool {
    members(level).is_some() || LEVELS_UNTOLD.contains(&level)
}

/// Results of NetrWkstaGetInfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkstationGetInfoReply {
    /// The level asked for.
    pub level: u32,
    /// The workstation, if the call succeeded.
    pub workstation: Option<WorkstationInfo>,
    /// How it went.
    pub status: Win32Error,
}

impl WorkstationGetInfoReply {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method returns.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        let level = reader.u32()?;
        let workstation = match members(level) {
            _ if !has_arm(level) || !reader.pointer()? => None,
            Some(members) => {
                let layout = LAYOUT.get(..members).unwrap_or_default();
                reader.structures(layout, 1)?.pop().map(WorkstationInfo::from_values)
            }
            None => return Err(Malformed("NetrWkstaGetInfo: level that is not told")),
        };
        Ok(Self { level, workstation, status: Win32Error(reader.u32()?) })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(self.level);
        match (members(self.level), &self.workstation) {
            (Some(members), Some(workstation)) => {
                writer.pointer(true);
                writer.structures(&[workstation.values().into_iter().take(members).collect()]);
            }
            _ if has_arm(self.level) => writer.pointer(false),
            _ => {}
        }
        writer.u32(self.status.0);
        writer.into_bytes()
    }
}

impl WorkstationInfo {
    fn values(&self) -> Vec<Value> {
        vec![
            Value::Number(self.platform_id),
            Value::Text(self.computer_name.clone()),
            Value::Text(self.domain.clone()),
            Value::Number(self.version_major),
            Value::Number(self.version_minor),
            Value::Text(self.lan_root.clone()),
            Value::Number(self.logged_on_users),
        ]
    }

    fn from_values(values: Vec<Value>) -> Self {
        let mut values = values.into_iter();
        Self {
            platform_id: number(values.next()),
            computer_name: text(values.next()),
            domain: text(values.next()),
            version_major: number(values.next()),
            version_minor: number(values.next()),
            lan_root: text(values.next()),
            logged_on_users: number(values.next()),
        }
    }
}
