//! One call for each command on files (MS-SMB2 3.2.4.3 to 3.2.4.20).

use bytes::Bytes;
use smb_proto::command::create::{self, CreateDisposition, CreateOptions, ImpersonationLevel, ShareAccess};
use smb_proto::command::ioctl::{
    self, FsctlCode, IoctlFlags, ValidateNegotiateRequest, ValidateNegotiateResponse,
};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::query_directory::{self, QueryDirectoryFlags};
use smb_proto::command::query_info::{self, InfoType, QueryFlags};
use smb_proto::command::write::{WriteFlags, WriteHead};
use smb_proto::command::{FileId, Request, Response, close, echo, flush, read, set_info};
use smb_proto::fscc::FileInfoClass;
use smb_proto::fscc::directory::{self, DirectoryEntry};
use smb_proto::fscc::file_info::{FileInformation, SetFileInformation};
use smb_proto::{AccessMask, FileAttributes, Name, NtStatus};

use super::connection::{Connection, Session, Target, Tree, WRONG_COMMAND};
use super::error::{Error, Result};

/// Bytes asked for when a directory is listed.
const LISTING_SIZE: u32 = 65_536;
/// Bytes asked for when information about a file is queried.
const INFORMATION_SIZE: u32 = 4096;

/// A request to open or create `name`, shared with everyone, without an oplock or contexts.
pub fn open(
    name: &str,
    access: AccessMask,
    disposition: CreateDisposition,
    options: CreateOptions,
) -> create::Request {
    create::Request {
        oplock_level: OplockLevel::NONE,
        impersonation_level: ImpersonationLevel::IMPERSONATION,
        desired_access: access,
        file_attributes: FileAttributes::NORMAL,
        share_access: ShareAccess::READ.with(ShareAccess::WRITE).with(ShareAccess::DELETE),
        create_disposition: disposition,
        create_options: options,
        name: Name::from(name),
        contexts: Vec::new(),
    }
}

macro_rules! expect {
    ($variant:ident, $response:expr) => {
        match $response {
            Response::$variant(response) => Ok(response),
            _ => Err(Error::Protocol(WRONG_COMMAND)),
        }
    };
}

/// Requests one at a time. Each returns the errors of [`Connection::call`].
#[allow(clippy::missing_errors_doc)]
impl Connection {
    /// Opens or creates.
    pub fn create(&mut self, tree: Tree, request: create::Request) -> Result<create::Response> {
        expect!(Create, self.call(tree, &Request::Create(request))?)
    }

    /// Closes an open.
    pub fn close(&mut self, tree: Tree, file_id: FileId) -> Result<close::Response> {
        let request = close::Request { flags: close::Flags::default(), file_id };
        expect!(Close, self.call(tree, &Request::Close(request))?)
    }

    /// Reads at most `length` bytes.
    pub fn read(&mut self, tree: Tree, file_id: FileId, offset: u64, length: u32) -> Result<Bytes> {
        Ok(expect!(Read, self.call(tree, &read_request(file_id, offset, length))?)?.data)
    }

    /// Writes; returns the number of bytes written.
    pub fn write(&mut self, tree: Tree, file_id: FileId, offset: u64, data: &[u8]) -> Result<u32> {
        let head = WriteHead { offset, file_id, flags: WriteFlags::default() };
        let message_id = self.submit_write(tree, &head, data)?;
        Ok(expect!(Write, self.wait(message_id)?.success()?)?.count)
    }

    /// Makes what was written durable.
    pub fn flush_file(&mut self, tree: Tree, file_id: FileId) -> Result<()> {
        expect!(Flush, self.call(tree, &Request::Flush(flush::Request { file_id }))?).map(|_| ())
    }

    /// The next entries of a directory, none at its end.
    pub fn query_directory(
        &mut self,
        tree: Tree,
        file_id: FileId,
        class: FileInfoClass,
        pattern: &str,
    ) -> Result<Option<Vec<DirectoryEntry>>> {
        let request = directory_request(file_id, class, pattern, LISTING_SIZE);
        match self.call(tree, &request) {
            Ok(response) => {
                let response = expect!(QueryDirectory, response)?;
                Ok(Some(directory::parse(class, &response.output)?))
            }
            Err(error) if error.status() == Some(NtStatus::NO_MORE_FILES) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything in a directory that matches a pattern.
    pub fn list(&mut self, tree: Tree, path: &str, pattern: &str) -> Result<Vec<DirectoryEntry>> {
        let access = AccessMask::LIST_DIRECTORY.with(AccessMask::READ_ATTRIBUTES);
        let request = open(path, access, CreateDisposition::OPEN, CreateOptions::DIRECTORY_FILE);
        let file_id = self.create(tree, request)?.file_id;
        let mut entries = Vec::new();
        while let Some(more) =
            self.query_directory(tree, file_id, FileInfoClass::ID_BOTH_DIRECTORY, pattern)?
        {
            entries.extend(more);
        }
        self.close(tree, file_id)?;
        Ok(entries)
    }

    /// Information about a file.
    pub fn query_info(
        &mut self,
        tree: Tree,
        file_id: FileId,
        class: FileInfoClass,
    ) -> Result<FileInformation> {
        let response = expect!(QueryInfo, self.call(tree, &info_request(file_id, class))?)?;
        Ok(FileInformation::parse(class, &response.output)?)
    }

    /// Changes a file.
    pub fn set_info(&mut self, tree: Tree, file_id: FileId, information: &SetFileInformation) -> Result<()> {
        let mut buffer = Vec::new();
        information.emit(&mut buffer);
        let request = set_info::Request {
            info_type: InfoType::FILE,
            file_info_class: information.class().0,
            additional_information: 0,
            file_id,
            buffer: buffer.into(),
        };
        expect!(SetInfo, self.call(tree, &Request::SetInfo(request))?).map(|_| ())
    }

    /// Sends a control and returns its output.
    pub fn control(
        &mut self,
        tree: Tree,
        file_id: FileId,
        code: FsctlCode,
        input: impl Into<Bytes>,
        output_max: u32,
    ) -> Result<Bytes> {
        let request = ioctl::Request {
            ctl_code: code,
            file_id,
            input: input.into(),
            max_input_response: 0,
            output_count: 0,
            max_output_response: output_max,
            flags: IoctlFlags::IS_FSCTL,
        };
        Ok(expect!(Ioctl, self.call(tree, &Request::Ioctl(request))?)?.output)
    }

    /// Sends an ECHO in a session, or in none.
    pub fn echo(&mut self, session: Option<Session>) -> Result<()> {
        let target = session.map_or(Target::NONE, Target::from);
        expect!(Echo, self.call(target, &Request::Echo(echo::Request))?).map(|_| ())
    }

    /// Asks, signed, whether the server received and sent the NEGOTIATE that the client sent and received (3.2.5.5): for
    /// 3.0 and 3.0.2, which don't hash it.
    pub fn validate_negotiate(&mut self, tree: Tree) -> Result<()> {
        let request = ValidateNegotiateRequest {
            capabilities: self.offered.capabilities.0,
            guid: self.client_guid,
            security_mode: self.offered.security_mode.0,
            dialects: self.offered.dialects.iter().map(|dialect| dialect.0).collect(),
        };
        let mut input = Vec::new();
        request.emit(&mut input);
        let mut signed = tree;
        if signed.session.protection == super::Protection::Plain {
            signed.session.protection = super::Protection::Signed;
        }
        let code = FsctlCode::VALIDATE_NEGOTIATE_INFO;
        let output = self.control(signed, FileId::ALL_ONES, code, input, 24)?;
        let expected = ValidateNegotiateResponse {
            capabilities: self.negotiated.capabilities.0,
            guid: self.negotiated.server_guid,
            security_mode: self.negotiated.security_mode.0,
            dialect: self.negotiated.dialect.0,
        };
        if ValidateNegotiateResponse::parse(&output)? == expected {
            Ok(())
        } else {
            Err(Error::Protocol("the NEGOTIATE was changed on its way"))
        }
    }
}

/// A request to read.
pub fn read_request(file_id: FileId, offset: u64, length: u32) -> Request {
    Request::Read(read::Request {
        padding: 80,
        flags: read::Flags::default(),
        length,
        offset,
        file_id,
        minimum_count: 0,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
    })
}

/// A request for the next entries of a directory.
pub fn directory_request(file_id: FileId, class: FileInfoClass, pattern: &str, size: u32) -> Request {
    Request::QueryDirectory(query_directory::Request {
        file_information_class: class.0,
        flags: QueryDirectoryFlags::default(),
        file_index: 0,
        file_id,
        file_name: Name::from(pattern),
        output_buffer_length: size,
    })
}

/// A request for information about a file.
pub fn info_request(file_id: FileId, class: FileInfoClass) -> Request {
    Request::QueryInfo(query_info::Request {
        info_type: InfoType::FILE,
        file_info_class: class.0,
        output_buffer_length: INFORMATION_SIZE,
        additional_information: 0,
        flags: QueryFlags::default(),
        file_id,
        input: Bytes::new(),
    })
}
