//! SVHDX_OPEN_DEVICE_CONTEXT and its response, in both versions (MS-RSVD 2.2.4.12, 2.2.4.31 to 2.2.4.33).

use binrw::binrw;

use crate::error::Malformed;
use crate::flags::values;
use crate::name::Name;
use crate::wire;

values! {
    /// Which component opens the disk.
    pub struct Originator(u32);
    /// The disk is opened as a virtual SCSI disk.
    PVHDPARSER = 0x0000_0001;
    /// The disk is opened as a file.
    VHDMP = 0x0000_0004;
}

/// What version 2 adds: zero in requests.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskProperties {
    /// Not zero when the following fields are filled in.
    pub initialized: u32,
    /// Version of the protocol that the server runs.
    pub server_service_version: u32,
    /// Sector size of the virtual disk, in bytes.
    pub virtual_sector_size: u32,
    /// Sector size of the medium, in bytes.
    pub physical_sector_size: u32,
    /// Length of the virtual disk, in bytes.
    pub virtual_size: u64,
}

/// The context's data; request and response have one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenDevice {
    /// The initiator, if it names itself.
    pub initiator_id: Option<[u8; 16]>,
    /// The application's value for the open.
    pub flags: u32,
    /// Who opens.
    pub originator: Originator,
    /// The client's number for the request.
    pub open_request_id: u64,
    /// The initiator's computer, at most 63 code units.
    pub initiator_host_name: Name,
    /// Present in version 2.
    pub properties: Option<DiskProperties>,
}

/// Size of the field that holds the host name, in bytes (RSVD_MAXIMUM_NAME_LENGTH).
const HOST_NAME: usize = 126;
/// Size of version 1.
const SIZE_V1: usize = 168;
/// Size of version 2.
const SIZE_V2: usize = 192;

#[binrw]
#[brw(little)]
struct Fixed {
    version: u32,
    has_initiator_id: u8,
    reserved: [u8; 3],
    initiator_id: [u8; 16],
    flags: u32,
    originator: Originator,
    open_request_id: u64,
    host_name_length: u16,
    host_name: [u8; HOST_NAME],
}

impl OpenDevice {
    /// Reads the data of a context.
    ///
    /// # Errors
    /// [`Malformed`] for another version than 1 or 2, a size that is not the version's, or a host name that is longer
    /// than its field.
    pub fn parse(data: &[u8]) -> Result<Self, Malformed> {
        let fixed: Fixed = wire::fixed(data, 0, "SVHDX context")?;
        let properties = match (fixed.version, data.len()) {
            (1, SIZE_V1) => None,
            (2, SIZE_V2) => Some(wire::fixed(data, SIZE_V1, "SVHDX context")?),
            _ => return Err(Malformed("SVHDX context: version and size disagree")),
        };
        let host_name = fixed.host_name.get(..usize::from(fixed.host_name_length));
        Ok(Self {
            initiator_id: (fixed.has_initiator_id != 0).then_some(fixed.initiator_id),
            flags: fixed.flags,
            originator: fixed.originator,
            open_request_id: fixed.open_request_id,
            initiator_host_name: Name::from_wire(host_name.ok_or(Malformed("SVHDX context: host name"))?)?,
            properties,
        })
    }

    /// Appends the data. A host name that is too long for its field is cut.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut encoded = Vec::new();
        wire::put_utf16(&mut encoded, self.initiator_host_name.units());
        encoded.truncate(HOST_NAME);
        let mut host_name = [0; HOST_NAME];
        for (target, byte) in host_name.iter_mut().zip(&encoded) {
            *target = *byte;
        }
        wire::put(
            out,
            &Fixed {
                version: if self.properties.is_some() { 2 } else { 1 },
                has_initiator_id: u8::from(self.initiator_id.is_some()),
                reserved: [0; 3],
                initiator_id: self.initiator_id.unwrap_or_default(),
                flags: self.flags,
                originator: self.originator,
                open_request_id: self.open_request_id,
                host_name_length: wire::length_u16(encoded.len()),
                host_name,
            },
        );
        if let Some(properties) = &self.properties {
            wire::put(out, properties);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(properties: Option<DiskProperties>) -> OpenDevice {
        OpenDevice {
            initiator_id: Some([4; 16]),
            flags: 1,
            originator: Originator::PVHDPARSER,
            open_request_id: 77,
            initiator_host_name: "NODE-1".into(),
            properties,
        }
    }

    #[test]
    fn both_versions_make_the_round_trip() {
        let properties = DiskProperties {
            initialized: 1,
            server_service_version: 2,
            virtual_sector_size: 512,
            physical_sector_size: 4096,
            virtual_size: 1 << 40,
        };
        for (value, size) in [(sample(None), SIZE_V1), (sample(Some(properties)), SIZE_V2)] {
            let mut bytes = Vec::new();
            value.emit(&mut bytes);
            assert_eq!(bytes.len(), size);
            assert_eq!(OpenDevice::parse(&bytes), Ok(value));
            assert!((0..size).all(|length| OpenDevice::parse(&bytes[..length]).is_err()));
        }
    }

    #[test]
    fn a_host_name_longer_than_its_field_is_refused() {
        let mut bytes = Vec::new();
        sample(None).emit(&mut bytes);
        bytes[40] = 128;
        assert!(OpenDevice::parse(&bytes).is_err());
    }
}
