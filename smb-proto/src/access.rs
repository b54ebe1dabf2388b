//! Access masks (MS-SMB2 2.2.13.1, MS-DTYP 2.4.3).

use crate::flags::flags;

flags! {
    /// Rights on a file, pipe, printer or directory, asked for or granted. The names are the specification's without
    /// `FILE_`; bits with a meaning of their own on directories have a second name.
    pub struct AccessMask(u32);
    /// Read data.
    READ_DATA = 0x0000_0001;
    /// Directory: list entries.
    LIST_DIRECTORY = 0x0000_0001;
    /// Write data.
    WRITE_DATA = 0x0000_0002;
    /// Directory: create files in it.
    ADD_FILE = 0x0000_0002;
    /// Append data.
    APPEND_DATA = 0x0000_0004;
    /// Directory: create directories in it.
    ADD_SUBDIRECTORY = 0x0000_0004;
    /// Read extended attributes.
    READ_EA = 0x0000_0008;
    /// Write extended attributes.
    WRITE_EA = 0x0000_0010;
    /// Execute.
    EXECUTE = 0x0000_0020;
    /// Directory: pass through it.
    TRAVERSE = 0x0000_0020;
    /// Directory: delete entries whatever rights the entries themselves give.
    DELETE_CHILD = 0x0000_0040;
    /// Read attributes.
    READ_ATTRIBUTES = 0x0000_0080;
    /// Change attributes.
    WRITE_ATTRIBUTES = 0x0000_0100;
    /// Delete or rename.
    DELETE = 0x0001_0000;
    /// Read the security descriptor, but for its SACL.
    READ_CONTROL = 0x0002_0000;
    /// Change the DACL.
    WRITE_DAC = 0x0004_0000;
    /// Change the owner.
    WRITE_OWNER = 0x0008_0000;
    /// Wait on the object; without a meaning over the network.
    SYNCHRONIZE = 0x0010_0000;
    /// Read and change the SACL.
    ACCESS_SYSTEM_SECURITY = 0x0100_0000;
    /// A request for whatever can be granted.
    MAXIMUM_ALLOWED = 0x0200_0000;
    /// Stands for [`Self::FILE_ALL_ACCESS`].
    GENERIC_ALL = 0x1000_0000;
    /// Stands for [`Self::FILE_GENERIC_EXECUTE`].
    GENERIC_EXECUTE = 0x2000_0000;
    /// Stands for [`Self::FILE_GENERIC_WRITE`].
    GENERIC_WRITE = 0x4000_0000;
    /// Stands for [`Self::FILE_GENERIC_READ`].
    GENERIC_READ = 0x8000_0000;
    /// Every right that a file or directory itself has.
    FILE_ALL_ACCESS = 0x001F_01FF;
    /// READ_DATA, READ_ATTRIBUTES, READ_EA, SYNCHRONIZE, READ_CONTROL.
    FILE_GENERIC_READ = 0x0012_0089;
    /// WRITE_DATA, APPEND_DATA, WRITE_ATTRIBUTES, WRITE_EA, SYNCHRONIZE, READ_CONTROL.
    FILE_GENERIC_WRITE = 0x0012_0116;
    /// READ_ATTRIBUTES, EXECUTE, SYNCHRONIZE, READ_CONTROL.
    FILE_GENERIC_EXECUTE = 0x0012_00A0;
    /// The four generic bits.
    GENERIC_MASK = 0xF000_0000;
    /// The bits that 2.2.13.1 defines; a CREATE that asks for others is refused (MS-FSA 2.1.5.1).
    VALID_MASK = 0xF31F_01FF;
}

impl AccessMask {
    /// The mask with each generic right replaced by the rights that it stands for on files and directories
    /// (MS-SMB2 2.2.13.1).
    #[must_use]
    pub const fn map_generic(self) -> Self {
        let mut mapped = self.without(Self::GENERIC_MASK);
        if self.intersects(Self::GENERIC_ALL) {
            mapped = mapped.with(Self::FILE_ALL_ACCESS);
        }
        if self.intersects(Self::GENERIC_EXECUTE) {
            mapped = mapped.with(Self::FILE_GENERIC_EXECUTE);
        }
        if self.intersects(Self::GENERIC_WRITE) {
            mapped = mapped.with(Self::FILE_GENERIC_WRITE);
        }
        if self.intersects(Self::GENERIC_READ) {
            mapped = mapped.with(Self::FILE_GENERIC_READ);
        }
        mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_rights_stand_for_the_rights_of_the_specification() {
        let common = AccessMask::SYNCHRONIZE.with(AccessMask::READ_CONTROL);
        let read =
            AccessMask::READ_DATA.with(AccessMask::READ_ATTRIBUTES).with(AccessMask::READ_EA).with(common);
        let write = AccessMask::WRITE_DATA
            .with(AccessMask::APPEND_DATA)
            .with(AccessMask::WRITE_ATTRIBUTES)
            .with(AccessMask::WRITE_EA)
            .with(common);
        let execute = AccessMask::READ_ATTRIBUTES.with(AccessMask::EXECUTE).with(common);
        assert_eq!(AccessMask::GENERIC_READ.map_generic(), read);
        assert_eq!(AccessMask::GENERIC_WRITE.map_generic(), write);
        assert_eq!(AccessMask::GENERIC_EXECUTE.map_generic(), execute);
        let all = read
            .with(write)
            .with(execute)
            .with(AccessMask::DELETE_CHILD)
            .with(AccessMask::DELETE)
            .with(AccessMask::WRITE_DAC)
            .with(AccessMask::WRITE_OWNER);
        assert_eq!(AccessMask::GENERIC_ALL.map_generic(), all);
        assert_eq!(AccessMask::MAXIMUM_ALLOWED.map_generic(), AccessMask::MAXIMUM_ALLOWED);
    }

    #[test]
    fn sets_behave_like_sets() {
        let both = AccessMask::DELETE.with(AccessMask::READ_DATA);
        assert!(both.contains(AccessMask::DELETE) && !AccessMask::DELETE.contains(both));
        assert!(AccessMask::DELETE.intersects(both) && !AccessMask::DELETE.intersects(AccessMask::READ_DATA));
        assert_eq!(both.without(AccessMask::DELETE), AccessMask::READ_DATA);
        assert_eq!(both.masked(AccessMask::DELETE), AccessMask::DELETE);
        assert!(both.without(both).is_empty());
    }
}
