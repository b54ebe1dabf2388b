//! A connection that is logged on and connected to a share, for scenarios that lose such connections and make new ones.

use smb_proto::auth::Credentials;

use super::{Connection, Error, Options, Protection, Tree};
use crate::peer::{Site, User};

/// A connection with a session and a share.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// The tree connect.
    pub tree: Tree,
}

impl Link {
    /// Connects a user to a share of a site.
    ///
    /// # Errors
    /// The server is gone or refuses.
    pub fn new(site: &Site, user: &User, share: &str, client_guid: [u8; 16]) -> Result<Self, Error> {
        let options = Options { client_guid: Some(client_guid), ..Options::default() };
        let mut connection = Connection::open(site.address, &options)?;
        let session =
            connection.log_on(&Credentials::password(user.name, "", user.password), Protection::Signed)?;
        let tree = connection.connect_tree(session, &format!(r"\\server\{share}"))?;
        Ok(Self { connection, tree })
    }
}
