//! Arguments and results of the server service's methods (MS-SRVS 2.2, 3.1.4), in both directions.
//!
//! Methods that change the server, and all its transports, aliases and DFS methods, are not here.

use super::Win32Error;
use super::ndr::{Kind, Reader, Value, Writer};
use crate::error::Malformed;
use crate::name::Name;

mod activity;

pub use activity::ActivityEnum;

/// Numbers of the methods.
#[allow(missing_docs)]
pub mod opnum {
    pub const CONNECTION_ENUM: u16 = 8;
    pub const FILE_ENUM: u16 = 9;
    pub const FILE_CLOSE: u16 = 11;
    pub const SESSION_ENUM: u16 = 12;
    pub const SESSION_DEL: u16 = 13;
    pub const SHARE_ENUM: u16 = 15;
    pub const SHARE_GET_INFO: u16 = 16;
    pub const SHARE_DEL: u16 = 18;
    pub const SHARE_DEL_STICKY: u16 = 19;
    pub const SERVER_GET_INFO: u16 = 21;
    pub const REMOTE_TOD: u16 = 28;
    pub const NAME_VALIDATE: u16 = 33;
    pub const SHARE_ENUM_STICKY: u16 = 36;
}

/// Platform identifier of Windows NT and its kin (MS-SRVS 2.2.2.6), which clients expect of a file server.
pub const PLATFORM_ID_NT: u32 = 500;
/// A preferred length that asks for everything (MS-SRVS 2.2.2.2).
pub const MAX_PREFERRED_LENGTH: u32 = u32::MAX;

/// What is shared (MS-SRVS 2.2.2.4): a kind, and flags. Unknown bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShareType(pub u32);

impl ShareType {
    /// Files.
    pub const DISK: Self = Self(0);
    /// A print queue.
    pub const PRINT_QUEUE: Self = Self(1);
    /// Pipes.
    pub const IPC: Self = Self(3);
    /// Flag: for the server's own purposes.
    pub const SPECIAL: Self = Self(0x8000_0000);
    /// Flag: gone when the server restarts.
    pub const TEMPORARY: Self = Self(0x4000_0000);

    /// With the bits of `other` too.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the share is set up by an administrator and survives a restart ("sticky", MS-SRVS 3.1.4.9).
    #[must_use]
    pub const fn is_sticky(self) -> bool {
        self.0 & (Self::SPECIAL.0 | Self::TEMPORARY.0) == 0
    }
}

/// What a machine does (MS-SRVS 2.2.2.7). Unknown bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerType(pub u32);

impl ServerType {
    /// Workstation service, server service, NT, and a server that is no domain controller.
    pub const FILE_SERVER: Self = Self(0x0000_9003);
}

impl Default for ServerType {
    fn default() -> Self {
        Self::FILE_SERVER
    }
}

/// A member of a share's information; the levels are lists of these.
#[derive(Clone, Copy)]
enum ShareField {
    Name,
    Kind,
    Remark,
    Permissions,
    UsesMax,
    Uses,
    Path,
    Password,
    ServerName,
    DescriptorLength,
    Descriptor,
    Flags,
}

use ShareField as F;

/// Members of the levels (MS-SRVS 2.2.4.22 to 2.2.4.29), and whether enumerations have the level too.
const SHARE_LEVELS: [(u32, bool, &[ShareField]); 7] = [
    (0, true, &[F::Name]),
    (1, true, &[F::Name, F::Kind, F::Remark]),
    (2, true, &[F::Name, F::Kind, F::Remark, F::Permissions, F::UsesMax, F::Uses, F::Path, F::Password]),
    (501, true, &[F::Name, F::Kind, F::Remark, F::Flags]),
    (
        502,
        true,
        &[
            F::Name,
            F::Kind,
            F::Remark,
            F::Permissions,
            F::UsesMax,
            F::Uses,
            F::Path,
            F::Password,
            F::DescriptorLength,
            F::Descriptor,
        ],
    ),
    (
        503,
        true,
        &[
            F::Name,
            F::Kind,
            F::Remark,
            F::Permissions,
            F::UsesMax,
            F::Uses,
            F::Path,
            F::Password,
            F::ServerName,
            F::DescriptorLength,
            F::Descriptor,
        ],
    ),
    (1005, false, &[F::Flags]),
];

fn share_fields(level: u32) -> Option<&'static [ShareField]> {
    SHARE_LEVELS.iter().find(|(candidate, ..)| *candidate == level).map(|(_, _, fields)| *fields)
}

/// Whether NetrShareEnum has the level.
#[must_use]
pub fn is_share_enum_level(level: u32) -> bool {
    SHARE_LEVELS.iter().any(|(candidate, enumerated, _)| *candidate == level && *enumerated)
}

/// Whether NetrShareGetInfo has the level.
#[must_use]
pub fn is_share_level(level: u32) -> bool {
    share_fields(level).is_some()
}

/// What a level tells of a share (MS-SRVS 2.2.4.26 describes all members). Members that a level does not have are
/// their defaults after parsing and are not emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShareInfo {
    /// The name.
    pub name: Option<Name>,
    /// What is shared.
    pub kind: ShareType,
    /// A comment.
    pub remark: Option<Name>,
    /// Not used.
    pub permissions: u32,
    /// Most concurrent connections, `u32::MAX` for no limit.
    pub uses_max: u32,
    /// Connections now.
    pub uses: u32,
    /// The path on the server.
    pub path: Option<Name>,
    /// Not used.
    pub password: Option<Name>,
    /// The server's name that the share is bound to, `*` for all.
    pub server_name: Option<Name>,
    /// The security descriptor, self-relative.
    pub security_descriptor: Option<Vec<u8>>,
    /// Flags (MS-SRVS 2.2.4.29).
    pub flags: u32,
}

impl ShareInfo {
    fn value(&self, field: ShareField) -> Value {
        match field {
            F::Name => Value::Text(self.name.clone()),
            F::Kind => Value::Number(self.kind.0),
            F::Remark => Value::Text(self.remark.clone()),
            F::Permissions => Value::Number(self.permissions),
            F::UsesMax => Value::Number(self.uses_max),
            F::Uses => Value::Number(self.uses),
            F::Path => Value::Text(self.path.clone()),
            F::Password => Value::Text(self.password.clone()),
            F::ServerName => Value::Text(self.server_name.clone()),
            F::DescriptorLength => {
                Value::Number(crate::wire::length_u32(self.security_descriptor.as_ref().map_or(0, Vec::len)))
            }
            F::Descriptor => Value::Bytes(self.security_descriptor.clone()),
            F::Flags => Value::Number(self.flags),
        }
    }

    fn set(&mut self, field: ShareField, value: Value) {
        match (field, value) {
            (F::Name, Value::Text(text)) => self.name = text,
            (F::Kind, Value::Number(number)) => self.kind = ShareType(number),
            (F::Remark, Value::Text(text)) => self.remark = text,
            (F::Permissions, Value::Number(number)) => self.permissions = number,
            (F::UsesMax, Value::Number(number)) => self.uses_max = number,
            (F::Uses, Value::Number(number)) => self.uses = number,
            (F::Path, Value::Text(text)) => self.path = text,
            (F::Password, Value::Text(text)) => self.password = text,
            (F::ServerName, Value::Text(text)) => self.server_name = text,
            (F::Descriptor, Value::Bytes(bytes)) => self.security_descriptor = bytes,
            (F::Flags, Value::Number(number)) => self.flags = number,
            // The descriptor's length is in the descriptor; other pairs do not arise, the layout is made of fields.
            _ => {}
        }
    }

    fn values(&self, fields: &[ShareField]) -> Vec<Value> {
        fields.iter().map(|field| self.value(*field)).collect()
    }

    /// Bytes that this information takes at a level, counted as preferred lengths are: members and what they point to.
    #[must_use]
    pub fn size(&self, level: u32) -> usize {
        let values = self.values(share_fields(level).unwrap_or_default());
        values.iter().fold(0_usize, |size, value| {
            let referent = match value {
                Value::Text(Some(text)) => text.wire_len().saturating_add(2),
                Value::Bytes(Some(bytes)) => bytes.len(),
                Value::Number(_) | Value::Text(None) | Value::Bytes(None) => 0,
            };
            size.saturating_add(4).saturating_add(referent)
        })
    }
}

fn read_shares(
    reader: &mut Reader<'_>,
    fields: &[ShareField],
    count: usize,
) -> Result<Vec<ShareInfo>, Malformed> {
    let blank = ShareInfo::default();
    let layout: Vec<Kind> = fields
        .iter()
        .map(|field| match blank.value(*field) {
            Value::Number(_) => Kind::Number,
            Value::Text(_) => Kind::Text,
            Value::Bytes(_) => Kind::Bytes,
        })
        .collect();
    let share = |values: Vec<Value>| {
        let mut info = ShareInfo::default();
        for (field, value) in fields.iter().zip(values) {
            info.set(*field, value);
        }
        info
    };
    Ok(reader.structures(&layout, count)?.into_iter().map(share).collect())
}

/// Reads a union's discriminant, which repeats the level.
fn read_tag(reader: &mut Reader<'_>, level: u32) -> Result<(), Malformed> {
    if reader.u32()? == level { Ok(()) } else { Err(Malformed("NDR union: its tag is not the level")) }
}

/// SHARE_ENUM_STRUCT (MS-SRVS 2.2.4.38) with its containers. `None` is a null container.
fn read_containers(reader: &mut Reader<'_>, level: u32) -> Result<Option<Vec<ShareInfo>>, Malformed> {
    read_tag(reader, level)?;
    let Some(fields) = share_fields(level).filter(|_| is_share_enum_level(level)) else { return Ok(None) };
    if !reader.pointer()? {
        return Ok(None);
    }
    let entries = reader.u32()?;
    if !reader.pointer()? {
        return Ok(Some(Vec::new()));
    }
    let count = reader.count(entries, fields.len().saturating_mul(4))?;
    read_shares(reader, fields, count).map(Some)
}

fn write_containers(writer: &mut Writer, level: u32, shares: Option<&[ShareInfo]>) {
    writer.u32(level);
    writer.u32(level);
    let Some(fields) = share_fields(level).filter(|_| is_share_enum_level(level)) else { return };
    writer.pointer(shares.is_some());
    let Some(shares) = shares else { return };
    let count = crate::wire::length_u32(shares.len());
    writer.u32(count);
    writer.pointer(!shares.is_empty());
    if !shares.is_empty() {
        writer.u32(count);
        let values: Vec<Vec<Value>> = shares.iter().map(|share| share.values(fields)).collect();
        writer.structures(&values);
    }
}

/// Arguments of NetrShareEnum and NetrShareEnumSticky (MS-SRVS 3.1.4.8, 3.1.4.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareEnum {
    /// The server.
    pub server_name: Option<Name>,
    /// The level.
    pub level: u32,
    /// Bytes of entries wanted, [`MAX_PREFERRED_LENGTH`] for all.
    pub preferred_length_max: u32,
    /// Where to go on, if the caller means to.
    pub resume_handle: Option<u32>,
}

impl ShareEnum {
    /// Reads a stub. Of a level that enumerations do not have, the rest of the arguments cannot be located; they are
    /// zero and absent then.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method takes.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        let server_name = reader.unique_string()?;
        let level = reader.u32()?;
        if !is_share_enum_level(level) {
            return Ok(Self { server_name, level, preferred_length_max: 0, resume_handle: None });
        }
        read_containers(&mut reader, level)?;
        let preferred_length_max = reader.u32()?;
        let resume_handle = reader.unique_u32()?;
        Ok(Self { server_name, level, preferred_length_max, resume_handle })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.unique_string(self.server_name.as_ref());
        write_containers(&mut writer, self.level, Some(&[]));
        writer.u32(self.preferred_length_max);
        writer.unique_u32(self.resume_handle);
        writer.into_bytes()
    }
}

/// Results of NetrShareEnum and NetrShareEnumSticky.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareEnumReply {
    /// The level asked for.
    pub level: u32,
    /// The entries; `None` when the call failed.
    pub shares: Option<Vec<ShareInfo>>,
    /// Entries that there are from where the enumeration began.
    pub entries_total: u32,
    /// Where to go on, if the caller asked.
    pub resume_handle: Option<u32>,
    /// How it went.
    pub status: Win32Error,
}

impl ShareEnumReply {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method returns.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        let level = reader.u32()?;
        Ok(Self {
            level,
            shares: read_containers(&mut reader, level)?,
            entries_total: reader.u32()?,
            resume_handle: reader.unique_u32()?,
            status: Win32Error(reader.u32()?),
        })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        write_containers(&mut writer, self.level, self.shares.as_deref());
        writer.u32(self.entries_total);
        writer.unique_u32(self.resume_handle);
        writer.u32(self.status.0);
        writer.into_bytes()
    }
}

/// Arguments of NetrShareGetInfo (MS-SRVS 3.1.4.10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareGetInfo {
    /// The server.
    pub server_name: Option<Name>,
    /// The share.
    pub share_name: Name,
    /// The level.
    pub level: u32,
}

impl ShareGetInfo {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method takes.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        Ok(Self { server_name: reader.unique_string()?, share_name: reader.string()?, level: reader.u32()? })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.unique_string(self.server_name.as_ref());
        writer.string(&self.share_name);
        writer.u32(self.level);
        writer.into_bytes()
    }
}

/// Levels of SHARE_INFO that only NetrShareSetInfo has (MS-SRVS 2.2.3.6). Their arms are in the union all the same.
const SHARE_SET_LEVELS: [u32; 3] = [1004, 1006, 1501];

/// Results of NetrShareGetInfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareGetInfoReply {
    /// The level asked for.
    pub level: u32,
    /// The share, if the call succeeded.
    pub share: Option<ShareInfo>,
    /// How it went.
    pub status: Win32Error,
}

impl ShareGetInfoReply {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method returns.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        let level = reader.u32()?;
        let fields = share_fields(level);
        let has_arm = fields.is_some() || SHARE_SET_LEVELS.contains(&level);
        let share = match fields {
            _ if !has_arm || !reader.pointer()? => None,
            Some(fields) => read_shares(&mut reader, fields, 1)?.pop(),
            None => return Err(Malformed("NetrShareGetInfo: level of another method")),
        };
        Ok(Self { level, share, status: Win32Error(reader.u32()?) })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(self.level);
        match (share_fields(self.level), &self.share) {
            (Some(fields), Some(share)) => {
                writer.pointer(true);
                writer.structures(&[share.values(fields)]);
            }
            (Some(_), None) => writer.pointer(false),
            (None, _) if SHARE_SET_LEVELS.contains(&self.level) => writer.pointer(false),
            (None, _) => {}
        }
        writer.u32(self.status.0);
        writer.into_bytes()
    }
}

/// Arguments of methods that take a server's name and a level: NetrServerGetInfo (MS-SRVS 3.1.4.17) and
/// NetrWkstaGetInfo (MS-WKST 3.2.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GetInfo {
    /// The server.
    pub server_name: Option<Name>,
    /// The level.
    pub level: u32,
}

impl GetInfo {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the methods take.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        Ok(Self { server_name: reader.unique_string()?, level: reader.u32()? })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.unique_string(self.server_name.as_ref());
        writer.u32(self.level);
        writer.into_bytes()
    }
}

/// What NetrServerGetInfo tells (MS-SRVS 2.2.4.40 to 2.2.4.42; 2.2.4.43 describes the members). Members that a level
/// does not have are their defaults after parsing and are not emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerInfo {
    /// The platform; level 100 on.
    pub platform_id: u32,
    /// The computer's name; level 100 on.
    pub name: Option<Name>,
    /// Major version; level 101 on.
    pub version_major: u32,
    /// Minor version; level 101 on.
    pub version_minor: u32,
    /// What the machine does; level 101 on.
    pub server_type: u32,
    /// A comment; level 101 on.
    pub comment: Option<Name>,
    /// Most users; this and all that follows at level 102.
    pub users_max: u32,
    /// Minutes after which idle sessions are disconnected, `u32::MAX` for never.
    pub disconnect_minutes: u32,
    /// Whether the machine hides from browsing.
    pub hidden: u32,
    /// Seconds between announcements.
    pub announce_seconds: u32,
    /// Milliseconds by which announcements vary.
    pub announce_delta_ms: u32,
    /// Not used.
    pub licenses: u32,
    /// Where users' directories are.
    pub user_path: Option<Name>,
}

/// Layout of level 102; levels 100 and 101 are the start of it.
const SERVER_LAYOUT: [Kind; 13] = [
    Kind::Number,
    Kind::Text,
    Kind::Number,
    Kind::Number,
    Kind::Number,
    Kind::Text,
    Kind::Number,
    Kind::Number,
    Kind::Number,
    Kind::Number,
    Kind::Number,
    Kind::Number,
    Kind::Text,
];

/// Levels of SERVER_INFO (MS-SRVS 2.2.3.7) whose information is not told, or can only be set.
const SERVER_LEVELS_UNTOLD: [u32; 48] = [
    103, 502, 503, 599, 1005, 1107, 1010, 1016, 1017, 1018, 1501, 1502, 1503, 1506, 1510, 1511, 1512, 1513,
    1514, 1515, 1516, 1518, 1523, 1528, 1529, 1530, 1533, 1534, 1535, 1536, 1538, 1539, 1540, 1541, 1542,
    1543, 1544, 1545, 1546, 1547, 1548, 1549, 1550, 1552, 1553, 1554, 1555, 1556,
];

fn server_members(level: u32) -> Option<usize> {
    match level {
        100 => Some(2),
        101 => Some(6),
        102 => Some(SERVER_LAYOUT.len()),
        _ => None,
    }
}

/// Whether SERVER_INFO has an arm for the level.
fn has_server_arm(level: u32) -> bool {
    server_members(level).is_some() || SERVER_LEVELS_UNTOLD.contains(&level)
}

/// Results of NetrServerGetInfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerGetInfoReply {
    /// The level asked for.
    pub level: u32,
    /// The server, if the call succeeded.
    pub server: Option<ServerInfo>,
    /// How it went.
    pub status: Win32Error,
}

impl ServerGetInfoReply {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method returns.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        let level = reader.u32()?;
        let server = match server_members(level) {
            _ if !has_server_arm(level) || !reader.pointer()? => None,
            Some(members) => {
                let layout = SERVER_LAYOUT.get(..members).unwrap_or_default();
                reader.structures(layout, 1)?.pop().map(ServerInfo::from_values)
            }
            None => return Err(Malformed("NetrServerGetInfo: level that is not told")),
        };
        Ok(Self { level, server, status: Win32Error(reader.u32()?) })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(self.level);
        match (server_members(self.level), &self.server) {
            (Some(members), Some(server)) => {
                writer.pointer(true);
                writer.structures(&[server.values().into_iter().take(members).collect()]);
            }
            _ if has_server_arm(self.level) => writer.pointer(false),
            _ => {}
        }
        writer.u32(self.status.0);
        writer.into_bytes()
    }
}

impl ServerInfo {
    fn values(&self) -> Vec<Value> {
        vec![
            Value::Number(self.platform_id),
            Value::Text(self.name.clone()),
            Value::Number(self.version_major),
            Value::Number(self.version_minor),
            Value::Number(self.server_type),
            Value::Text(self.comment.clone()),
            Value::Number(self.users_max),
            Value::Number(self.disconnect_minutes),
            Value::Number(self.hidden),
            Value::Number(self.announce_seconds),
            Value::Number(self.announce_delta_ms),
            Value::Number(self.licenses),
            Value::Text(self.user_path.clone()),
        ]
    }

    fn from_values(values: Vec<Value>) -> Self {
        let mut values = values.into_iter();
        Self {
            platform_id: number(values.next()),
            name: text(values.next()),
            version_major: number(values.next()),
            version_minor: number(values.next()),
            server_type: number(values.next()),
            comment: text(values.next()),
            users_max: number(values.next()),
            disconnect_minutes: number(values.next()),
            hidden: number(values.next()),
            announce_seconds: number(values.next()),
            announce_delta_ms: number(values.next()),
            licenses: number(values.next()),
            user_path: text(values.next()),
        }
    }
}

/// A number, or zero for a member that the level does not have.
pub(super) fn number(value: Option<Value>) -> u32 {
    if let Some(Value::Number(number)) = value { number } else { 0 }
}

/// A string, or none for a member that the level does not have.
pub(super) fn text(value: Option<Value>) -> Option<Name> {
    if let Some(Value::Text(text)) = value { text } else { None }
}

/// TIME_OF_DAY_INFO (MS-SRVS 2.2.4.105), in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct TimeOfDay {
    /// Seconds since 1970.
    pub elapsed_seconds: u32,
    /// Milliseconds since an arbitrary point.
    pub elapsed_ms: u32,
    pub hours: u32,
    pub minutes: u32,
    pub seconds: u32,
    pub hundredths: u32,
    /// Minutes from local time to UTC, positive west of Greenwich; -1 when not known.
    pub time_zone_minutes: i32,
    /// Ten-thousandths of a second per tick of the clock.
    pub tick_interval: u32,
    /// From 1.
    pub day: u32,
    /// From 1.
    pub month: u32,
    pub year: u32,
    /// From 0, Sunday.
    pub weekday: u32,
}

/// Results of NetrRemoteTOD (MS-SRVS 3.1.4.21), whose only argument is a server's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteTimeOfDayReply {
    /// The time, if the call succeeded.
    pub time: Option<TimeOfDay>,
    /// How it went.
    pub status: Win32Error,
}

impl RemoteTimeOfDayReply {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method returns.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        let time = if reader.pointer()? {
            Some(TimeOfDay {
                elapsed_seconds: reader.u32()?,
                elapsed_ms: reader.u32()?,
                hours: reader.u32()?,
                minutes: reader.u32()?,
                seconds: reader.u32()?,
                hundredths: reader.u32()?,
                time_zone_minutes: reader.u32()?.cast_signed(),
                tick_interval: reader.u32()?,
                day: reader.u32()?,
                month: reader.u32()?,
                year: reader.u32()?,
                weekday: reader.u32()?,
            })
        } else {
            None
        };
        Ok(Self { time, status: Win32Error(reader.u32()?) })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.pointer(self.time.is_some());
        if let Some(time) = self.time {
            writer.u32(time.elapsed_seconds);
            writer.u32(time.elapsed_ms);
            writer.u32(time.hours);
            writer.u32(time.minutes);
            writer.u32(time.seconds);
            writer.u32(time.hundredths);
            writer.u32(time.time_zone_minutes.cast_unsigned());
            writer.u32(time.tick_interval);
            writer.u32(time.day);
            writer.u32(time.month);
            writer.u32(time.year);
            writer.u32(time.weekday);
        }
        writer.u32(self.status.0);
        writer.into_bytes()
    }
}

/// Arguments of NetprNameValidate (MS-SRVS 3.1.4.32), which returns a status only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameValidate {
    /// The server.
    pub server_name: Option<Name>,
    /// The name to check.
    pub name: Name,
    /// Its type (MS-SRVS 2.2.2.8).
    pub name_type: u32,
    /// Reserved, zero.
    pub flags: u32,
}

impl NameValidate {
    /// Reads a stub.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method takes.
    pub fn parse(stub: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stub);
        Ok(Self {
            server_name: reader.unique_string()?,
            name: reader.string()?,
            name_type: reader.u32()?,
            flags: reader.u32()?,
        })
    }

    /// The stub.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.unique_string(self.server_name.as_ref());
        writer.string(&self.name);
        writer.u32(self.name_type);
        writer.u32(self.flags);
        writer.into_bytes()
    }
}
