//! A directory that goes when an open of it closes (FILE_DELETE_ON_CLOSE; MS-FSA 2.1.5.5 phase 1).
//!
//! Only an empty directory goes, and once its delete is pending it stays empty (S40): before the file hears of the close, the
//! namespace keeps names out of the directory, then storage says whether it is empty. If it is not, the open closes as any
//! other does.

use smb_proto::command::create::CreateOptions;

use super::Open;
use super::close::Closing;
use crate::file::FileAsk;
use crate::message::{Address, Answer, Message};
use crate::namespace::NamespaceAsk;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{StorageOp, StorageReply};

impl Open {
    /// Whether the open is one of a directory that goes with it.
    pub(crate) fn deletes_directory(&self) -> bool {
        self.is_directory() && self.options.contains(CreateOptions::DELETE_ON_CLOSE)
    }
}

impl Shard {
    /// Keeps names out of a directory that is about to go.
    pub(crate) fn doom_closing(&mut self, closing: Closing, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        let (volume, number) = (open.volume(), open.file.number);
        let asker = self.wait(Wait::CloseDoomed(Box::new(closing)));
        let ask = NamespaceAsk::Doom(number);
        turn.post(Address::Namespace(volume), Message::AskNamespace(ask, asker));
    }

    /// The namespace keeps names out, or a name was on its way in.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_closing_doomed(&mut self, closing: Closing, answer: &Answer, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        match answer {
            Answer::Granted => {
                let op = StorageOp::CheckEmpty { handle: open.handle };
                let requester = closing.requester.clone();
                self.submit(requester, op, Wait::CloseEmpty(Box::new(closing)), turn);
            }
            Answer::Again => self.doom_closing(closing, turn),
            _ => self.spare_closing(closing, turn),
        }
    }

    /// Storage said whether the directory is empty.
    pub(crate) fn on_closing_empty(&mut self, closing: Closing, reply: &StorageReply, turn: &mut Turn<'_>) {
        if matches!(reply, StorageReply::Done) {
            self.tell_file_closed(closing, turn);
        } else {
            self.spare_closing(closing, turn);
        }
    }

    /// The directory stays.
    fn spare_closing(&mut self, closing: Closing, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        let (file, volume) = (open.file, open.volume());
        let nobody = self.nobody();
        let ask = NamespaceAsk::Spare(file.number);
        turn.post(Address::Namespace(volume), Message::AskNamespace(ask, nobody));
        let ask = FileAsk::KeepOnClose { open: closing.open };
        turn.post(Address::File(file), Message::AskFile(ask, nobody));
        self.tell_file_closed(closing, turn);
    }
}
