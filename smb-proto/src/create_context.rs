//! Create contexts (MS-SMB2 2.2.13.2 in requests, 2.2.14.2 in responses).
//!
//! A context whose name is not known is kept as it came, to be ignored or passed on. One whose name is known and whose
//! data has another size than it must have makes the message malformed, as 3.3.5.9 asks.

use binrw::binrw;
use bytes::Bytes;

use crate::access::AccessMask;
use crate::command::FileId;
use crate::error::Malformed;
use crate::flags::flags;
use crate::status::NtStatus;
use crate::time::FileTime;
use crate::wire;

mod chain;
mod lease;
pub mod svhdx;
#[cfg(test)]
mod tests;

pub use chain::CONTEXTS_MAX;
pub use lease::{LeaseFlags, LeaseKey, LeaseState, LeaseV1, LeaseV2};

/// Names of contexts, in the order of their bytes on the wire.
pub mod name {
    /// Extended attributes for a new file.
    pub const EA_BUFFER: &[u8] = b"ExtA";
    /// Security descriptor for a new file.
    pub const SD_BUFFER: &[u8] = b"SecD";
    /// Durable handle.
    pub const DURABLE_HANDLE_REQUEST: &[u8] = b"DHnQ";
    /// Reconnect to a durable handle.
    pub const DURABLE_HANDLE_RECONNECT: &[u8] = b"DHnC";
    /// Durable or persistent handle (3.x).
    pub const DURABLE_HANDLE_REQUEST_V2: &[u8] = b"DH2Q";
    /// Reconnect to a durable or persistent handle (3.x).
    pub const DURABLE_HANDLE_RECONNECT_V2: &[u8] = b"DH2C";
    /// Allocation size.
    pub const ALLOCATION_SIZE: &[u8] = b"AlSi";
    /// Maximal access.
    pub const QUERY_MAXIMAL_ACCESS: &[u8] = b"MxAc";
    /// A previous version.
    pub const TIMEWARP_TOKEN: &[u8] = b"TWrp";
    /// The file's identity.
    pub const QUERY_ON_DISK_ID: &[u8] = b"QFid";
    /// A lease, of either version.
    pub const LEASE: &[u8] = b"RqLs";
    /// Application instance.
    pub const APP_INSTANCE_ID: &[u8] =
        &[0x45, 0xBC, 0xA6, 0x6A, 0xEF, 0xA7, 0xF7, 0x4A, 0x90, 0x08, 0xFA, 0x46, 0x2E, 0x14, 0x4D, 0x74];
    /// Version of the application instance.
    pub const APP_INSTANCE_VERSION: &[u8] =
        &[0xB9, 0x82, 0xD0, 0xB7, 0x3B, 0x56, 0x07, 0x4F, 0xA0, 0x7B, 0x52, 0x4A, 0x81, 0x16, 0xA0, 0x10];
    /// Shared virtual disk.
    pub const SVHDX_OPEN_DEVICE: &[u8] =
        &[0x9C, 0xCB, 0xCF, 0x9E, 0x04, 0xC1, 0xE6, 0x43, 0x98, 0x0E, 0x15, 0x8D, 0xA1, 0xF6, 0xEC, 0x83];
    /// Reserved, to be ignored.
    pub const RESERVED: &[u8] =
        &[0x93, 0xAD, 0x25, 0x50, 0x9C, 0xB4, 0x11, 0xE7, 0xB4, 0x23, 0x83, 0xDE, 0x96, 0x8B, 0xCD, 0x7C];
}

flags! {
    /// Flags of the version 2 durable handle contexts.
    pub struct DurableFlags(u32);
    /// The handle is persistent.
    PERSISTENT = 0x0000_0002;
}

/// DH2Q of a request (2.2.13.2.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DurableRequestV2 {
    /// How long the server shall keep the handle after a disconnect, in milliseconds; 0 leaves it to the server.
    pub timeout_ms: u32,
    /// Flags.
    pub flags: DurableFlags,
    /// The client's name for this create.
    pub create_guid: [u8; 16],
}

/// DH2C (2.2.13.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DurableReconnectV2 {
    /// The open to take up again.
    pub file_id: FileId,
    /// The client's name for the create that made the open.
    pub create_guid: [u8; 16],
    /// Flags.
    pub flags: DurableFlags,
}

/// DH2Q of a response (2.2.14.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DurableResponseV2 {
    /// How long the server keeps the handle after a disconnect, in milliseconds.
    pub timeout_ms: u32,
    /// Flags.
    pub flags: DurableFlags,
}

/// Application instance version (2.2.13.2.15). Compares as the number of 128 bits that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppInstanceVersion {
    /// Most significant half.
    pub high: u64,
    /// Least significant half.
    pub low: u64,
}

/// MxAc of a response (2.2.14.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaximalAccess {
    /// Whether the rights could be determined.
    pub query_status: NtStatus,
    /// The rights, meaningful when `query_status` is success.
    pub maximal_access: AccessMask,
}

/// QFid of a response (2.2.14.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnDiskId {
    /// The file within its volume.
    pub disk_file_id: u64,
    /// The volume.
    pub volume_id: u64,
}

/// A context of a CREATE request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestContext {
    /// ExtA: a list of FILE_FULL_EA_INFORMATION (MS-FSCC 2.4.16).
    EaBuffer(Bytes),
    /// SecD: a self-relative security descriptor (MS-DTYP 2.4.6).
    SdBuffer(Bytes),
    /// DHnQ.
    DurableHandleRequest,
    /// DHnC: the open to take up again.
    DurableHandleReconnect(FileId),
    /// DH2Q.
    DurableHandleRequestV2(DurableRequestV2),
    /// DH2C.
    DurableHandleReconnectV2(DurableReconnectV2),
    /// AlSi: bytes to reserve.
    AllocationSize(u64),
    /// MxAc: the last write time that the client knows, if it gives one; the answer may be left out when it is current.
    QueryMaximalAccess(Option<FileTime>),
    /// TWrp: the version to open.
    TimewarpToken(FileTime),
    /// QFid.
    QueryOnDiskId,
    /// RqLs, version 1.
    Lease(LeaseV1),
    /// RqLs, version 2.
    LeaseV2(LeaseV2),
    /// Application instance.
    AppInstanceId([u8; 16]),
    /// Version of the application instance.
    AppInstanceVersion(AppInstanceVersion),
    /// Shared virtual disk; see [`svhdx::OpenDevice`] for what the data holds.
    SvhdxOpenDevice(Bytes),
    /// A context with another name.
    Unknown {
        /// Name.
        name: Bytes,
        /// Data.
        data: Bytes,
    },
}

/// A context of a CREATE response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResponseContext {
    /// DHnQ: the handle is durable.
    DurableHandle,
    /// DH2Q: the handle is durable or persistent.
    DurableHandleV2(DurableResponseV2),
    /// MxAc.
    MaximalAccess(MaximalAccess),
    /// QFid.
    OnDiskId(OnDiskId),
    /// RqLs, version 1.
    Lease(LeaseV1),
    /// RqLs, version 2.
    LeaseV2(LeaseV2),
    /// Shared virtual disk; see [`svhdx::OpenDevice`] for what the data holds.
    SvhdxOpenDevice(Bytes),
    /// A context with another name.
    Unknown {
        /// Name.
        name: Bytes,
        /// Data.
        data: Bytes,
    },
}

#[binrw]
#[brw(little)]
struct DurableRequestV2Fixed {
    timeout_ms: u32,
    flags: DurableFlags,
    reserved: u64,
    create_guid: [u8; 16],
}

#[binrw]
#[brw(little)]
struct DurableReconnectV2Fixed {
    file_id: FileId,
    create_guid: [u8; 16],
    flags: DurableFlags,
}

#[binrw]
#[brw(little)]
struct DurableResponseV2Fixed {
    timeout_ms: u32,
    flags: DurableFlags,
}

#[binrw]
#[brw(little)]
struct AppInstanceIdFixed {
    #[br(assert(structure_size == 20))]
    structure_size: u16,
    reserved: u16,
    id: [u8; 16],
}

#[binrw]
#[brw(little)]
struct AppInstanceVersionFixed {
    #[br(assert(structure_size == 24))]
    structure_size: u16,
    reserved: u16,
    padding: u32,
    high: u64,
    low: u64,
}

#[binrw]
#[brw(little)]
struct MaximalAccessFixed {
    query_status: u32,
    maximal_access: AccessMask,
}

#[binrw]
#[brw(little)]
struct OnDiskIdFixed {
    disk_file_id: u64,
    volume_id: u64,
    reserved: [u8; 16],
}

/// Reads data that has to have one size.
fn exact<T>(data: &[u8], size: usize, what: &'static str) -> Result<T, Malformed>
where
    T: binrw::BinRead + binrw::meta::ReadEndian,
    for<'a> T::Args<'a>: Default,
{
    if data.len() == size { wire::fixed(data, 0, what) } else { Err(Malformed(what)) }
}

/// Reads eight bytes that are one number.
fn exact_u64(data: &[u8], what: &'static str) -> Result<u64, Malformed> {
    data.try_into().map(u64::from_le_bytes).map_err(|_| Malformed(what))
}

impl RequestContext {
    /// Reads the chain of contexts of a request.
    ///
    /// # Errors
    /// [`Malformed`] when the chain doesn't hold together, when it has more than [`CONTEXTS_MAX`] contexts, or when the
    /// data of a known context has the wrong size.
    pub fn parse_chain(chain: &Bytes) -> Result<Vec<Self>, Malformed> {
        chain::parse(chain, Self::decode)
    }

    /// Appends the chain, without padding after the last context. It must start at a multiple of 8 in its message.
    pub fn emit_chain(contexts: &[Self], out: &mut Vec<u8>) {
        chain::emit(out, contexts, Self::name, Self::emit_data);
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self {
            Self::EaBuffer(_) => name::EA_BUFFER,
            Self::SdBuffer(_) => name::SD_BUFFER,
            Self::DurableHandleRequest => name::DURABLE_HANDLE_REQUEST,
            Self::DurableHandleReconnect(_) => name::DURABLE_HANDLE_RECONNECT,
            Self::DurableHandleRequestV2(_) => name::DURABLE_HANDLE_REQUEST_V2,
            Self::DurableHandleReconnectV2(_) => name::DURABLE_HANDLE_RECONNECT_V2,
            Self::AllocationSize(_) => name::ALLOCATION_SIZE,
            Self::QueryMaximalAccess(_) => name::QUERY_MAXIMAL_ACCESS,
            Self::TimewarpToken(_) => name::TIMEWARP_TOKEN,
            Self::QueryOnDiskId => name::QUERY_ON_DISK_ID,
            Self::Lease(_) | Self::LeaseV2(_) => name::LEASE,
            Self::AppInstanceId(_) => name::APP_INSTANCE_ID,
            Self::AppInstanceVersion(_) => name::APP_INSTANCE_VERSION,
            Self::SvhdxOpenDevice(_) => name::SVHDX_OPEN_DEVICE,
            Self::Unknown { name, .. } => name,
        }
    }

    fn decode(name: Bytes, data: Bytes) -> Result<Self, Malformed> {
        Ok(match name.as_ref() {
            name::EA_BUFFER => Self::EaBuffer(data),
            name::SD_BUFFER => Self::SdBuffer(data),
            name::DURABLE_HANDLE_REQUEST => {
                exact::<FileId>(&data, 16, "DHnQ context")?; // Reserved: only the size is of interest.
                Self::DurableHandleRequest
            }
            name::DURABLE_HANDLE_RECONNECT => Self::DurableHandleReconnect(exact(&data, 16, "DHnC context")?),
            name::DURABLE_HANDLE_REQUEST_V2 => {
                let DurableRequestV2Fixed { timeout_ms, flags, create_guid, .. } =
                    exact(&data, 32, "DH2Q context")?;
                Self::DurableHandleRequestV2(DurableRequestV2 { timeout_ms, flags, create_guid })
            }
            name::DURABLE_HANDLE_RECONNECT_V2 => {
                let DurableReconnectV2Fixed { file_id, create_guid, flags } =
                    exact(&data, 36, "DH2C context")?;
                Self::DurableHandleReconnectV2(DurableReconnectV2 { file_id, create_guid, flags })
            }
            name::ALLOCATION_SIZE => Self::AllocationSize(exact_u64(&data, "AlSi context")?),
            name::QUERY_MAXIMAL_ACCESS if data.is_empty() => Self::QueryMaximalAccess(None),
            name::QUERY_MAXIMAL_ACCESS => {
                Self::QueryMaximalAccess(Some(FileTime(exact_u64(&data, "MxAc context")?)))
            }
            name::TIMEWARP_TOKEN => Self::TimewarpToken(FileTime(exact_u64(&data, "TWrp context")?)),
            name::QUERY_ON_DISK_ID if data.is_empty() => Self::QueryOnDiskId,
            name::QUERY_ON_DISK_ID => return Err(Malformed("QFid context")),
            name::LEASE if data.len() == lease::SIZE_V2 => Self::LeaseV2(LeaseV2::parse(&data)?),
            name::LEASE => Self::Lease(LeaseV1::parse(&data)?),
            name::APP_INSTANCE_ID => {
                let AppInstanceIdFixed { id, .. } = exact(&data, 20, "application instance context")?;
                Self::AppInstanceId(id)
            }
            name::APP_INSTANCE_VERSION => {
                let AppInstanceVersionFixed { high, low, .. } =
                    exact(&data, 24, "application instance version context")?;
                Self::AppInstanceVersion(AppInstanceVersion { high, low })
            }
            name::SVHDX_OPEN_DEVICE => Self::SvhdxOpenDevice(data),
            _ => Self::Unknown { name, data },
        })
    }

    fn emit_data(&self, out: &mut Vec<u8>) {
        match self {
            Self::QueryMaximalAccess(None) | Self::QueryOnDiskId => {}
            Self::DurableHandleRequest => out.extend_from_slice(&[0; 16]),
            Self::DurableHandleReconnect(file_id) => wire::put(out, file_id),
            Self::DurableHandleRequestV2(DurableRequestV2 { timeout_ms, flags, create_guid }) => {
                let (timeout_ms, flags, create_guid) = (*timeout_ms, *flags, *create_guid);
                wire::put(out, &DurableRequestV2Fixed { timeout_ms, flags, reserved: 0, create_guid });
            }
            Self::DurableHandleReconnectV2(DurableReconnectV2 { file_id, create_guid, flags }) => {
                let (file_id, create_guid, flags) = (*file_id, *create_guid, *flags);
                wire::put(out, &DurableReconnectV2Fixed { file_id, create_guid, flags });
            }
            Self::AllocationSize(value)
            | Self::QueryMaximalAccess(Some(FileTime(value)))
            | Self::TimewarpToken(FileTime(value)) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Lease(lease) => lease.emit(out),
            Self::LeaseV2(lease) => lease.emit(out),
            Self::AppInstanceId(id) => {
                wire::put(out, &AppInstanceIdFixed { structure_size: 20, reserved: 0, id: *id });
            }
            Self::AppInstanceVersion(AppInstanceVersion { high, low }) => {
                let (high, low) = (*high, *low);
                wire::put(
                    out,
                    &AppInstanceVersionFixed { structure_size: 24, reserved: 0, padding: 0, high, low },
                );
            }
            Self::EaBuffer(data)
            | Self::SdBuffer(data)
            | Self::SvhdxOpenDevice(data)
            | Self::Unknown { data, .. } => out.extend_from_slice(data),
        }
    }
}

impl ResponseContext {
    /// Reads the chain of contexts of a response.
    ///
    /// # Errors
    /// [`Malformed`] when the chain doesn't hold together, when it has more than [`CONTEXTS_MAX`] contexts, or when the
    /// data of a known context has the wrong size.
    pub fn parse_chain(chain: &Bytes) -> Result<Vec<Self>, Malformed> {
        chain::parse(chain, Self::decode)
    }

    /// Appends the chain, without padding after the last context. It must start at a multiple of 8 in its message.
    pub fn emit_chain(contexts: &[Self], out: &mut Vec<u8>) {
        chain::emit(out, contexts, Self::name, Self::emit_data);
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self {
            Self::DurableHandle => name::DURABLE_HANDLE_REQUEST,
            Self::DurableHandleV2(_) => name::DURABLE_HANDLE_REQUEST_V2,
            Self::MaximalAccess(_) => name::QUERY_MAXIMAL_ACCESS,
            Self::OnDiskId(_) => name::QUERY_ON_DISK_ID,
            Self::Lease(_) | Self::LeaseV2(_) => name::LEASE,
            Self::SvhdxOpenDevice(_) => name::SVHDX_OPEN_DEVICE,
            Self::Unknown { name, .. } => name,
        }
    }

    fn decode(name: Bytes, data: Bytes) -> Result<Self, Malformed> {
        Ok(match name.as_ref() {
            name::DURABLE_HANDLE_REQUEST => {
                exact_u64(&data, "DHnQ context")?;
                Self::DurableHandle
            }
            name::DURABLE_HANDLE_REQUEST_V2 => {
                let DurableResponseV2Fixed { timeout_ms, flags } = exact(&data, 8, "DH2Q context")?;
                Self::DurableHandleV2(DurableResponseV2 { timeout_ms, flags })
            }
            name::QUERY_MAXIMAL_ACCESS => {
                let MaximalAccessFixed { query_status, maximal_access } = exact(&data, 8, "MxAc context")?;
                Self::MaximalAccess(MaximalAccess { query_status: NtStatus(query_status), maximal_access })
            }
            name::QUERY_ON_DISK_ID => {
                let OnDiskIdFixed { disk_file_id, volume_id, .. } = exact(&data, 32, "QFid context")?;
                Self::OnDiskId(OnDiskId { disk_file_id, volume_id })
            }
            name::LEASE if data.len() == lease::SIZE_V2 => Self::LeaseV2(LeaseV2::parse(&data)?),
            name::LEASE => Self::Lease(LeaseV1::parse(&data)?),
            name::SVHDX_OPEN_DEVICE => Self::SvhdxOpenDevice(data),
            _ => Self::Unknown { name, data },
        })
    }

    fn emit_data(&self, out: &mut Vec<u8>) {
        match self {
            Self::DurableHandle => out.extend_from_slice(&[0; 8]),
            Self::DurableHandleV2(DurableResponseV2 { timeout_ms, flags }) => {
                wire::put(out, &DurableResponseV2Fixed { timeout_ms: *timeout_ms, flags: *flags });
            }
            Self::MaximalAccess(MaximalAccess { query_status, maximal_access }) => {
                let (query_status, maximal_access) = (query_status.0, *maximal_access);
                wire::put(out, &MaximalAccessFixed { query_status, maximal_access });
            }
            Self::OnDiskId(OnDiskId { disk_file_id, volume_id }) => {
                let (disk_file_id, volume_id) = (*disk_file_id, *volume_id);
                wire::put(out, &OnDiskIdFixed { disk_file_id, volume_id, reserved: [0; 16] });
            }
            Self::Lease(lease) => lease.emit(out),
            Self::LeaseV2(lease) => lease.emit(out),
            Self::SvhdxOpenDevice(data) | Self::Unknown { data, .. } => out.extend_from_slice(data),
        }
    }
}
