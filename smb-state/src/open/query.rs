//! QUERY_INFO (MS-SMB2 3.3.5.20, MS-FSA 2.1.5.12, 2.1.5.13).
//!
//! Not done: quotas.

use smb_proto::Name;
use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::command::create::CreateOptions;
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::query_info::SecurityInformation;
use smb_proto::fscc::Fit;
use smb_proto::fscc::class::{FileInfoClass, FsInfoClass};
use smb_proto::fscc::ea::{self, FullEa};
use smb_proto::fscc::file_info::{
    AllInformation, AttributeTagInformation, BasicInformation, CompressionInformation, FileInformation,
    IdInformation, Mode, NetworkOpenInformation, PipeInformation, PipeLocalInformation, StandardInformation,
};
use smb_proto::fscc::fs_info::{
    AttributeInformation, Characteristics, ControlInformation, DeviceInformation, FsAttributes,
    FsControlFlags, FsInformation, FullSizeInformation, ObjectIdInformation, SectorFlags,
    SectorSizeInformation, SizeInformation, VolumeInformation,
};
use smb_proto::fscc::stream::StreamEntry;
use smb_proto::security::descriptor::SecurityDescriptor;

use super::io::Then;
use super::{Open, OpenRequest};
use crate::file::FileAsk;
use crate::ids::OpenId;
use crate::message::{Address, Answer, Message};
use crate::request::{Asked, QueryInfo};
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Attributes, Kind, PipeState, StorageOp, StorageReply, VolumeCaps, VolumeInfo};

/// A query that is with storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    /// File information from attributes.
    File {
        class: FileInfoClass,
        length_max: u32,
        delete_pending: bool,
    },
    Streams {
        length_max: u32,
    },
    NormalizedName {
        length_max: u32,
    },
    Eas {
        length_max: u32,
        single: bool,
        names: Vec<bytes::Bytes>,
    },
    Volume {
        class: FsInfoClass,
        length_max: u32,
    },
    Security {
        parts: SecurityInformation,
        length_max: u32,
    },
    Pipe {
        length_max: u32,
    },
}

impl Shard {
    pub(crate) fn on_query_info(
        &mut self,
        request: &OpenRequest,
        query: &QueryInfo,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if query.output_max.max(query.input_length) > request.execution.terms.io_size_max {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let length_max = query.output_max;
        match &query.asked {
            Asked::File(class) => self.on_query_file(request, *class, length_max, turn),
            Asked::Eas { restart, single, index, names } => {
                let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
                open.check_any(AccessMask::READ_EA)?;
                if !open.caps.extended_attributes {
                    return Err(NtStatus::EAS_NOT_SUPPORTED);
                }
                if let Some(index) = index {
                    open.ea_index = *index;
                } else if *restart {
                    open.ea_index = 1;
                }
                let op = StorageOp::Eas { handle: open.handle };
                let query = Query::Eas { length_max, single: *single, names: names.clone() };
                self.submit_for(request, op, Then::Query(query), turn);
                Ok(())
            }
            Asked::Volume(class) => {
                let fixed = class.fixed_len().ok_or(NtStatus::INVALID_INFO_CLASS)?;
                if (length_max as usize) < fixed {
                    return Err(NtStatus::INFO_LENGTH_MISMATCH);
                }
                let query = Query::Volume { class: *class, length_max };
                self.submit_for(request, StorageOp::Volume, Then::Query(query), turn);
                Ok(())
            }
            Asked::Security(parts) => {
                let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
                check_security_access(open, *parts)?;
                let op = StorageOp::Security { handle: open.handle };
                let query = Query::Security { parts: *parts, length_max };
                self.submit_for(request, op, Then::Query(query), turn);
                Ok(())
            }
            Asked::Quota => Err(NtStatus::NOT_SUPPORTED),
            Asked::Unreadable => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    fn on_query_file(
        &mut self,
        request: &OpenRequest,
        class: FileInfoClass,
        length_max: u32,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        let fixed =
            class.fixed_len().filter(|_| !class.is_directory()).ok_or(NtStatus::INVALID_INFO_CLASS)?;
        if (length_max as usize) < fixed {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let needs_attributes = matches!(
            class,
            FileInfoClass::BASIC
                | FileInfoClass::ALL
                | FileInfoClass::NETWORK_OPEN
                | FileInfoClass::ATTRIBUTE_TAG
        );
        if needs_attributes {
            open.check_any(AccessMask::READ_ATTRIBUTES)?;
        }
        let is_pipe_class = matches!(class, FileInfoClass::PIPE | FileInfoClass::PIPE_LOCAL);
        if is_pipe_class && open.kind != Kind::Pipe {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        match class {
            FileInfoClass::STREAM => {
                let op = StorageOp::Streams { handle: open.handle };
                self.submit_for(request, op, Then::Query(Query::Streams { length_max }), turn);
            }
            FileInfoClass::PIPE_LOCAL => {
                let op = StorageOp::PipeState { handle: open.handle };
                self.submit_for(request, op, Then::Query(Query::Pipe { length_max }), turn);
            }
            // Known to 3.1.1 only (3.3.5.20.1).
            FileInfoClass::NORMALIZED_NAME if request.execution.terms.dialect != Dialect::SMB_3_1_1 => {
                return Err(NtStatus::NOT_SUPPORTED);
            }
            FileInfoClass::NORMALIZED_NAME => {
                let op = StorageOp::Path { handle: open.handle };
                self.submit_for(request, op, Then::Query(Query::NormalizedName { length_max }), turn);
            }
            FileInfoClass::STANDARD | FileInfoClass::ALL => {
                // Whether the delete is pending is the file's to say.
                let file = open.file;
                if let Some(open) = self.opens.get_mut(&request.open) {
                    open.outstanding.begin(request.origin.ticket);
                }
                let pending = super::io::Pending {
                    open: request.open,
                    origin: request.origin,
                    spent: None,
                    abandoned: false,
                    way: super::checked::Way::Free,
                    changes: CompletionFilter::EMPTY,
                    then: Then::Query(Query::File { class, length_max, delete_pending: false }),
                };
                let asker = self.wait(Wait::QueryPending(Box::new(pending)));
                let ask = FileAsk::IsPending { open: request.open };
                turn.post(Address::File(file), Message::AskFile(ask, asker));
            }
            _ => {
                let op = StorageOp::Attributes { handle: open.handle };
                let query = Query::File { class, length_max, delete_pending: false };
                self.submit_for(request, op, Then::Query(query), turn);
            }
        }
        Ok(())
    }

    /// The file said whether its delete is pending.
    pub(crate) fn on_query_pending(
        &mut self,
        mut pending: super::io::Pending,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        if let (Then::Query(Query::File { delete_pending, .. }), Answer::Pending(is)) =
            (&mut pending.then, answer)
        {
            *delete_pending = *is;
        }
        let Some(open) = self.opens.get(&pending.open) else { return };
        let op = StorageOp::Attributes { handle: open.handle };
        let requester = open.requester(&pending.origin);
        self.submit(requester, op, Wait::Request(Box::new(pending)), turn);
    }

    pub(crate) fn query_outcome(
        &mut self,
        id: OpenId,
        query: Query,
        reply: StorageReply,
    ) -> (NtStatus, Body) {
        let server_guid = self.config.server_guid;
        let Some(open) = self.opens.get_mut(&id) else { return (NtStatus::FILE_CLOSED, Body::Error) };
        match (query, reply) {
            (Query::File { class, length_max, delete_pending }, StorageReply::Attributes(attributes)) => {
                match file_information(open, class, &attributes, delete_pending) {
                    Some(information) => encoded(|out| information.emit_within(out, length_max as usize)),
                    None => (NtStatus::INVALID_INFO_CLASS, Body::Error),
                }
            }
            (Query::Streams { length_max }, StorageReply::Streams(streams)) => {
                let entries = streams
                    .into_iter()
                    .map(|stream| StreamEntry {
                        name: wire_stream_name(&stream.name),
                        size: stream.size,
                        allocation_size: stream.allocation,
                    })
                    .collect();
                let information = FileInformation::Stream(entries);
                encoded(|out| information.emit_within(out, length_max as usize))
            }
            (Query::NormalizedName { length_max }, StorageReply::Path(path)) => {
                let information = FileInformation::NormalizedName(path);
                encoded(|out| information.emit_within(out, length_max as usize))
            }
            (Query::Eas { length_max, single, names }, StorageReply::Eas(eas)) => {
                ea_outcome(open, eas, length_max as usize, single, &names)
            }
            (Query::Volume { class: FsInfoClass::OBJECT_ID, length_max }, StorageReply::Volume(_)) => {
                let object_id = super::ioctl::volume_object_id(open, server_guid);
                let information =
                    FsInformation::ObjectId(ObjectIdInformation { object_id, extended_info: [0; 48] });
                encoded(|out| information.emit_within(out, length_max as usize))
            }
            (Query::Volume { class, length_max }, StorageReply::Volume(volume)) => {
                match volume_information(class, &volume, open.caps) {
                    Some(information) => encoded(|out| information.emit_within(out, length_max as usize)),
                    None => (NtStatus::INVALID_INFO_CLASS, Body::Error),
                }
            }
            (Query::Pipe { length_max }, StorageReply::Pipe(state)) => {
                let information = FileInformation::PipeLocal(pipe_local(state));
                encoded(|out| information.emit_within(out, length_max as usize))
            }
            (Query::Security { parts, length_max }, StorageReply::Security(descriptor)) => {
                security_outcome(&descriptor, parts, length_max)
            }
            (_, _) => (NtStatus::INTERNAL_ERROR, Body::Error),
        }
    }
}

fn encoded(emit: impl FnOnce(&mut Vec<u8>) -> Fit) -> (NtStatus, Body) {
    let mut out = Vec::new();
    let fit = emit(&mut out);
    match fit {
        Fit::Whole | Fit::Partial => (fit.status(), Body::Info(out)),
        Fit::NoEntry | Fit::BelowFixed => (fit.status(), Body::Error),
    }
}

fn check_security_access(open: &Open, parts: SecurityInformation) -> Result<(), NtStatus> {
    let readable = SecurityInformation::OWNER
        .with(SecurityInformation::GROUP)
        .with(SecurityInformation::DACL)
        .with(SecurityInformation::LABEL);
    if parts.intersects(readable) && !open.access.intersects(AccessMask::READ_CONTROL) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if parts.intersects(SecurityInformation::SACL)
        && !open.access.intersects(AccessMask::ACCESS_SYSTEM_SECURITY)
    {
        return Err(NtStatus::ACCESS_DENIED);
    }
    Ok(())
}

fn security_outcome(
    descriptor: &SecurityDescriptor,
    parts: SecurityInformation,
    length_max: u32,
) -> (NtStatus, Body) {
    let mut out = Vec::new();
    descriptor.select(parts).emit(&mut out);
    if out.len() > length_max as usize {
        let needed = u32::try_from(out.len()).unwrap_or(u32::MAX);
        return (NtStatus::BUFFER_TOO_SMALL, Body::BytesNeeded(needed));
    }
    (NtStatus::SUCCESS, Body::Info(out))
}

fn ea_outcome(
    open: &mut Open,
    eas: Vec<FullEa>,
    length_max: usize,
    single: bool,
    names: &[bytes::Bytes],
) -> (NtStatus, Body) {
    let list: Vec<FullEa> = if names.is_empty() {
        if eas.is_empty() {
            return (NtStatus::NO_EAS_ON_FILE, Body::Error);
        }
        let skip = (open.ea_index.max(1) - 1) as usize;
        if skip > eas.len() {
            return (NtStatus::NONEXISTENT_EA_ENTRY, Body::Error);
        }
        if skip == eas.len() {
            return (NtStatus::NO_MORE_EAS, Body::Error);
        }
        eas.into_iter().skip(skip).take(if single { 1 } else { usize::MAX }).collect()
    } else {
        // A name that is not there is answered with an empty value (MS-FSA 2.1.5.12.10).
        let named = names.iter().map(|name| {
            let found = eas.iter().find(|ea| ea.name.eq_ignore_ascii_case(name));
            found.cloned().unwrap_or(FullEa { flags: 0, name: name.clone(), value: bytes::Bytes::new() })
        });
        named.take(if single { 1 } else { usize::MAX }).collect()
    };
    let mut out = Vec::new();
    let fit = ea::emit_full(&list, &mut out, length_max);
    match fit {
        Fit::Whole => {
            open.ea_index = open.ea_index.saturating_add(u32::try_from(list.len()).unwrap_or(u32::MAX));
            (NtStatus::SUCCESS, Body::Info(out))
        }
        Fit::Partial => (NtStatus::BUFFER_OVERFLOW, Body::Info(out)),
        Fit::NoEntry | Fit::BelowFixed => (NtStatus::BUFFER_TOO_SMALL, Body::Error),
    }
}

fn basic(attributes: &Attributes) -> BasicInformation {
    BasicInformation {
        creation_time: attributes.creation,
        last_access_time: attributes.last_access,
        last_write_time: attributes.last_write,
        change_time: attributes.change,
        attributes: attributes.dos,
    }
}

fn standard(open: &Open, attributes: &Attributes, delete_pending: bool) -> StandardInformation {
    StandardInformation {
        allocation_size: attributes.allocation,
        end_of_file: attributes.end_of_file,
        // A link that will go does not count any more.
        number_of_links: attributes.links.saturating_sub(u32::from(delete_pending && open.stream.is_empty())),
        delete_pending,
        directory: open.is_directory(),
    }
}

fn mode(options: CreateOptions) -> Mode {
    let kept = CreateOptions::WRITE_THROUGH
        .with(CreateOptions::SEQUENTIAL_ONLY)
        .with(CreateOptions::NO_INTERMEDIATE_BUFFERING)
        .with(CreateOptions::SYNCHRONOUS_IO_ALERT)
        .with(CreateOptions::SYNCHRONOUS_IO_NONALERT)
        .with(CreateOptions::DELETE_ON_CLOSE);
    Mode(options.masked(kept).0)
}

/// A pipe of messages, in both directions, seen from the client's end. Each open is an instance of its own (MS-FSCC 2.4.38).
fn pipe_local(pipe: PipeState) -> PipeLocalInformation {
    const CONNECTED: u32 = 3;
    const CLOSING: u32 = 4;
    PipeLocalInformation {
        pipe_type: 1,
        configuration: 2,
        maximum_instances: u32::MAX,
        current_instances: 1,
        inbound_quota: pipe.inbound_quota,
        read_data_available: pipe.readable,
        outbound_quota: pipe.outbound_quota,
        write_quota_available: pipe.writable,
        state: if pipe.is_broken { CLOSING } else { CONNECTED },
        end: 0,
    }
}

/// The path from the share's root, with a leading backslash.
fn rooted(path: &Name) -> Name {
    let mut units = vec![u16::from(b'\\')];
    units.extend_from_slice(path.units());
    Name::from_units(units)
}

fn file_information(
    open: &Open,
    class: FileInfoClass,
    attributes: &Attributes,
    delete_pending: bool,
) -> Option<FileInformation> {
    Some(match class {
        FileInfoClass::BASIC => FileInformation::Basic(basic(attributes)),
        FileInfoClass::STANDARD => FileInformation::Standard(standard(open, attributes, delete_pending)),
        FileInfoClass::INTERNAL => FileInformation::Internal(attributes.number.0),
        FileInfoClass::EA => FileInformation::Ea(attributes.ea_size),
        FileInfoClass::ACCESS => FileInformation::Access(open.access),
        FileInfoClass::POSITION => FileInformation::Position(open.position),
        FileInfoClass::MODE => FileInformation::Mode(mode(open.options)),
        FileInfoClass::ALIGNMENT => FileInformation::Alignment(0),
        FileInfoClass::NAME => FileInformation::Name(rooted(&open.path)),
        // Names have no second, short form here. smbclient's allinfo gives up on an error, so the answer is an empty name.
        FileInfoClass::ALTERNATE_NAME => FileInformation::AlternateName(Name::default()),
        FileInfoClass::ALL => FileInformation::All(AllInformation {
            basic: basic(attributes),
            standard: standard(open, attributes, delete_pending),
            index_number: attributes.number.0,
            ea_size: attributes.ea_size,
            access: open.access,
            current_byte_offset: open.position,
            mode: mode(open.options),
            alignment: 0,
            name: rooted(&open.path),
        }),
        FileInfoClass::COMPRESSION => FileInformation::Compression(CompressionInformation {
            compressed_size: attributes.end_of_file,
            format: 0,
            unit_shift: 0,
            chunk_shift: 0,
            cluster_shift: 0,
        }),
        FileInfoClass::NETWORK_OPEN => FileInformation::NetworkOpen(NetworkOpenInformation {
            creation_time: attributes.creation,
            last_access_time: attributes.last_access,
            last_write_time: attributes.last_write,
            change_time: attributes.change,
            allocation_size: attributes.allocation,
            end_of_file: attributes.end_of_file,
            attributes: attributes.dos,
        }),
        FileInfoClass::ATTRIBUTE_TAG => FileInformation::AttributeTag(AttributeTagInformation {
            attributes: attributes.dos,
            reparse_tag: attributes.reparse_tag,
        }),
        FileInfoClass::ID => {
            let mut file_id = [0; 16];
            file_id[..8].copy_from_slice(&attributes.number.0.to_le_bytes());
            let volume_serial_number = u64::from(open.file.volume.0);
            FileInformation::Id(IdInformation { volume_serial_number, file_id })
        }
        FileInfoClass::PIPE => FileInformation::Pipe(PipeInformation { read_mode: 1, completion_mode: 0 }),
        _ => return None,
    })
}

/// `:name:$DATA`.
fn wire_stream_name(name: &Name) -> Name {
    let mut units = vec![u16::from(b':')];
    units.extend_from_slice(name.units());
    units.extend(":$DATA".encode_utf16());
    Name::from_units(units)
}

fn volume_information(class: FsInfoClass, volume: &VolumeInfo, caps: VolumeCaps) -> Option<FsInformation> {
    let sectors_per_allocation_unit = volume.unit_size / volume.sector_size.max(1);
    let bytes_per_sector = volume.sector_size;
    Some(match class {
        FsInfoClass::VOLUME => FsInformation::Volume(VolumeInformation {
            creation_time: volume.creation,
            serial_number: volume.serial,
            supports_objects: false,
            label: volume.label.clone(),
        }),
        FsInfoClass::SIZE => FsInformation::Size(SizeInformation {
            total_allocation_units: volume.units_total,
            available_allocation_units: volume.units_available,
            sectors_per_allocation_unit,
            bytes_per_sector,
        }),
        FsInfoClass::FULL_SIZE => FsInformation::FullSize(FullSizeInformation {
            total_allocation_units: volume.units_total,
            caller_available_allocation_units: volume.units_available,
            actual_available_allocation_units: volume.units_free,
            sectors_per_allocation_unit,
            bytes_per_sector,
        }),
        FsInfoClass::DEVICE => FsInformation::Device(DeviceInformation {
            device_type: if caps.pipes { 0x11 } else { 0x07 },
            characteristics: if caps.read_only {
                Characteristics::DEVICE_IS_MOUNTED.with(Characteristics::READ_ONLY_DEVICE)
            } else {
                Characteristics::DEVICE_IS_MOUNTED
            },
        }),
        // No quotas are tracked, and there are no defaults (MS-FSCC 2.5.2).
        FsInfoClass::CONTROL => FsInformation::Control(ControlInformation {
            free_space_start_filtering: 0,
            free_space_threshold: 0,
            free_space_stop_filtering: 0,
            default_quota_threshold: u64::MAX,
            default_quota_limit: u64::MAX,
            flags: FsControlFlags::EMPTY,
        }),
        FsInfoClass::ATTRIBUTE => FsInformation::Attribute(AttributeInformation {
            attributes: fs_attributes(caps),
            maximum_component_length: volume.component_max,
            // Clients know what to expect of this name; of another they assume the least (MS-FSCC 2.5.1).
            name: Name::from("NTFS"),
        }),
        FsInfoClass::SECTOR_SIZE => FsInformation::SectorSize(SectorSizeInformation {
            logical_bytes_per_sector: bytes_per_sector,
            physical_bytes_per_sector_for_atomicity: bytes_per_sector,
            physical_bytes_per_sector_for_performance: volume.unit_size,
            effective_physical_bytes_per_sector_for_atomicity: bytes_per_sector,
            flags: sector_flags(caps),
            byte_offset_for_sector_alignment: 0,
            byte_offset_for_partition_alignment: 0,
        }),
        _ => return None,
    })
}

/// Where holes can be made, what is trimmed gives its space back.
fn sector_flags(caps: VolumeCaps) -> SectorFlags {
    let aligned = SectorFlags::ALIGNED_DEVICE.with(SectorFlags::PARTITION_ALIGNED_ON_DEVICE);
    if caps.sparse { aligned.with(SectorFlags::TRIM_ENABLED) } else { aligned }
}

fn fs_attributes(caps: VolumeCaps) -> FsAttributes {
    let offered = [
        (true, FsAttributes::CASE_PRESERVED_NAMES),
        (true, FsAttributes::UNICODE_ON_DISK),
        (caps.security, FsAttributes::PERSISTENT_ACLS),
        (caps.streams, FsAttributes::NAMED_STREAMS),
        (caps.sparse, FsAttributes::SUPPORTS_SPARSE_FILES),
        (caps.extended_attributes, FsAttributes::SUPPORTS_EXTENDED_ATTRIBUTES),
        (caps.hard_links, FsAttributes::SUPPORTS_HARD_LINKS),
        (caps.symbolic_links, FsAttributes::SUPPORTS_REPARSE_POINTS),
        (caps.block_clone, FsAttributes::SUPPORTS_BLOCK_REFCOUNTING),
        (caps.read_only, FsAttributes::READ_ONLY_VOLUME),
    ];
    offered.into_iter().filter(|(has, _)| *has).fold(FsAttributes::EMPTY, |all, (_, one)| all.with(one))
}
