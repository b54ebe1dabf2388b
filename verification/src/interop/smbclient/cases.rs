//! What smbclient does in each dialect and protection.

use std::fs;

use anyhow::{Result, ensure};

use super::{Bench, Client};
use crate::interop::bulk::Noise;
use crate::peer::User;
use crate::process;

/// One case, in a directory of its own.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) run: fn(&Bench<'_>) -> Result<()>,
}

/// Every case.
pub(super) const ALL: &[Case] = &[
    Case { name: "share list", run: share_list },
    Case { name: "wrong password", run: wrong_password },
    Case { name: "unknown share", run: unknown_share },
    Case { name: "put and get", run: put_and_get },
    Case { name: "overwrite shorter", run: overwrite_shorter },
    Case { name: "ls", run: ls },
    Case { name: "mput and mget", run: mput_and_mget },
    Case { name: "rename", run: rename },
    Case { name: "mkdir and rmdir", run: mkdir_and_rmdir },
    Case { name: "del", run: del },
    Case { name: "allinfo", run: allinfo },
    Case { name: "symbolic link", run: symbolic_link },
    Case { name: "du", run: du },
    Case { name: "deltree", run: deltree },
    Case { name: "names with spaces", run: names_with_spaces },
    Case { name: "names beyond the BMP", run: names_beyond_the_bmp },
    Case { name: "longest names", run: longest_names },
    Case { name: "trailing dot", run: trailing_dot },
];

fn share_list(bench: &Bench<'_>) -> Result<()> {
    let mut command = bench.client.base_command()?;
    command.args(["-g", "-L", &bench.site.address.ip().to_string()]);
    let output = process::run_checked(&mut command, super::LIMIT)?;
    for share in &bench.site.shares {
        let entry = format!("Disk|{}|", share.name);
        ensure!(output.lines().any(|line| line.starts_with(&entry)), "no {entry} in {output}");
    }
    ensure!(output.lines().any(|line| line.starts_with("IPC|IPC$|")), "no IPC$ in {output}");
    Ok(())
}

fn wrong_password(bench: &Bench<'_>) -> Result<()> {
    let known = User { name: bench.client.user.name, password: "not the password" };
    let stranger = User { name: "nobody-we-know", password: bench.client.user.password };
    for user in [known, stranger] {
        let client = Client { user, ..bench.client.clone() };
        client.run_refused("ls", "NT_STATUS_LOGON_FAILURE")?;
    }
    Ok(())
}

fn unknown_share(bench: &Bench<'_>) -> Result<()> {
    let client = Client { share: "nothing-here".into(), directory: None, ..bench.client.clone() };
    client.run_refused("ls", "NT_STATUS_BAD_NETWORK_NAME")
}

fn put_and_get(bench: &Bench<'_>) -> Result<()> {
    // Around the sizes where clients split: 64 KiB without large MTU, 1 MiB and 8 MiB with it.
    for size in [0, 1, 4096, 65_535, 65_536, 65_537, (1 << 20) + 3, (8 << 20) + 1] {
        let content = Noise::new(size as u64).bytes(size);
        bench.make_local("sent", &content)?;
        bench.client.run("put sent stored; get stored received")?;
        bench.check_local("received", &content)?;
        ensure!(
            fs::read(bench.served.join("stored"))? == content,
            "{size} bytes differ in the share's directory"
        );
    }
    bench.client.run_refused("get missing", "NT_STATUS_OBJECT_NAME_NOT_FOUND")
}

fn overwrite_shorter(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("long", &Noise::new(1).bytes(100_000))?;
    let short = Noise::new(2).bytes(10);
    bench.make_local("short", &short)?;
    bench.client.run("put long file; put short file; get file received")?;
    bench.check_local("received", &short)
}

fn ls(bench: &Bench<'_>) -> Result<()> {
    fs::write(bench.served.join("one.txt"), b"12345")?;
    fs::write(bench.served.join("two.dat"), b"1")?;
    crate::peer::make_open_directory(&bench.served.join("folder"))?;
    let all = bench.client.run("ls")?;
    for name in [".", "..", "folder", "one.txt", "two.dat"] {
        ensure!(listed(&all, name).is_some(), "no {name} in {all}");
    }
    ensure!(listed(&all, "one.txt").is_some_and(|(_, size)| size == 5), "size of one.txt in {all}");
    ensure!(listed(&all, "folder").is_some_and(|(flags, _)| flags.contains('D')), "no directory in {all}");
    let some = bench.client.run("ls *.txt")?;
    ensure!(listed(&some, "one.txt").is_some() && listed(&some, "two.dat").is_none(), "{some}");
    bench.client.run_refused("ls *.none", "NT_STATUS_NO_SUCH_FILE")
}

fn mput_and_mget(bench: &Bench<'_>) -> Result<()> {
    let names = ["first.bin", "second.bin", "third.bin"];
    for (seed, name) in (0..).zip(names) {
        bench.make_local(name, &Noise::new(seed).bytes(3000))?;
    }
    fs::create_dir(bench.local("back"))?;
    bench.client.run("prompt; mput *.bin; lcd back; mget *.bin")?;
    for (seed, name) in (0..).zip(names) {
        bench.check_local(&format!("back/{name}"), &Noise::new(seed).bytes(3000))?;
    }
    Ok(())
}

fn rename(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("file", b"renamed")?;
    bench
        .client
        .run("put file old; put file other; mkdir sub; rename old sub\\new; get sub\\new received")?;
    bench.check_local("received", b"renamed")?;
    ensure!(!bench.served.join("old").exists(), "the old name is still there");
    bench.client.run_refused("rename other sub\\new", "NT_STATUS_OBJECT_NAME_COLLISION")?;
    bench.client.run_refused("rename missing anything", "NT_STATUS_OBJECT_NAME_NOT_FOUND")?;
    bench.client.run("rename sub moved; get moved\\new received")?;
    bench.check_local("received", b"renamed")
}

fn mkdir_and_rmdir(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("file", b"x")?;
    bench.client.run("mkdir outer; mkdir outer\\inner; put file outer\\inner\\file")?;
    ensure!(bench.served.join("outer/inner").is_dir(), "no directory was made");
    bench.client.run_refused("mkdir outer", "NT_STATUS_OBJECT_NAME_COLLISION")?;
    bench.client.run_refused("rmdir outer\\inner", "NT_STATUS_DIRECTORY_NOT_EMPTY")?;
    bench.client.run("del outer\\inner\\file; rmdir outer\\inner; rmdir outer")?;
    ensure!(!bench.served.join("outer").exists(), "the directory is still there");
    bench.client.run_refused("rmdir outer", "NT_STATUS_OBJECT_NAME_NOT_FOUND")
}

fn del(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("file", b"x")?;
    bench.client.run("put file one; put file two; put file keep; del one; del tw*")?;
    let left: Vec<_> =
        fs::read_dir(&bench.served)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    ensure!(left.len() == 1 && bench.served.join("keep").exists(), "left in the directory: {left:?}");
    bench.client.run_refused("del one", "NT_STATUS_NO_SUCH_FILE")
}

fn allinfo(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("file", &[7; 12_345])?;
    let output = bench.client.run("put file; allinfo file")?;
    for field in ["create_time:", "access_time:", "write_time:", "change_time:", "attributes:"] {
        ensure!(output.lines().any(|line| line.starts_with(field)), "no {field} in {output}");
    }
    ensure!(output.contains("stream: [::$DATA], 12345 bytes"), "no main stream of 12345 bytes in {output}");
    Ok(())
}

/// Whether the server shows links or follows them: what is asked of a link's name works, and what it leads to stays.
fn symbolic_link(bench: &Bench<'_>) -> Result<()> {
    fs::write(bench.served.join("target"), b"behind the link")?;
    std::os::unix::fs::symlink("target", bench.served.join("link"))?;
    let information = bench.client.run("allinfo link")?;
    let shown = information.contains("symlink: subst=[target]");
    let followed = information.contains("stream: [::$DATA], 15 bytes");
    ensure!(shown != followed, "{information}");
    if followed {
        return bench.client.run("get link received").map(drop);
    }
    bench.client.run("rename link moved; del moved")?;
    ensure!(fs::symlink_metadata(bench.served.join("moved")).is_err(), "the link is still there");
    ensure!(fs::read(bench.served.join("target"))? == b"behind the link", "the target is not as it was");
    Ok(())
}

fn du(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("file", &[7; 1000])?;
    let output = bench.client.run("put file; mkdir sub; put file sub\\file; recurse; du *")?;
    ensure!(output.contains("Total number of bytes: 2000"), "{output}");
    ensure!(output.contains(" blocks available"), "no free space in {output}");
    Ok(())
}

fn deltree(bench: &Bench<'_>) -> Result<()> {
    bench.make_local("file", b"x")?;
    bench.client.run(
        "mkdir tree; mkdir tree\\a; mkdir tree\\a\\b; put file tree\\f; put file tree\\a\\b\\g; deltree tree",
    )?;
    ensure!(!bench.served.join("tree").exists(), "the tree is still there");
    Ok(())
}

fn names_with_spaces(bench: &Bench<'_>) -> Result<()> {
    round_trip(bench, "a name with  spaces.txt")?;
    bench.client.run("mkdir \"my folder\"; cd \"my folder\"; ls")?;
    Ok(())
}

fn names_beyond_the_bmp(bench: &Bench<'_>) -> Result<()> {
    for name in ["Größe Ω 漢字", "🎵 𝄞 clef.txt", "𠮷野家"] {
        round_trip(bench, name)?;
    }
    Ok(())
}

fn longest_names(bench: &Bench<'_>) -> Result<()> {
    // 255 bytes on disk: one, two and four bytes for a code point.
    for name in ["n".repeat(255), format!("{}x", "é".repeat(127)), format!("{}xyz", "𝄞".repeat(63))] {
        ensure!(name.len() == 255);
        round_trip(bench, &name)?;
    }
    bench.make_local("file", b"x")?;
    for length in [256, 300] {
        let name = "n".repeat(length);
        bench.client.run_refused(&format!("put file {name}"), "NT_STATUS_OBJECT_NAME_INVALID")?;
    }
    Ok(())
}

fn trailing_dot(bench: &Bench<'_>) -> Result<()> {
    round_trip(bench, "ends with a dot.")?;
    round_trip(bench, "three dots...")?;
    bench.client.run_refused("get \"ends with a dot\"", "NT_STATUS_OBJECT_NAME_NOT_FOUND")
}

/// Stores a file under a name, finds the name in a listing and on disk as it was sent, reads it, deletes it.
fn round_trip(bench: &Bench<'_>, name: &str) -> Result<()> {
    let content = Noise::new(name.len() as u64).bytes(777);
    bench.make_local("sent", &content)?;
    let output = bench.client.run(&format!("put sent \"{name}\"; ls; get \"{name}\" received"))?;
    ensure!(listed(&output, name).is_some_and(|(_, size)| size == 777), "no {name} in {output}");
    ensure!(fs::read(bench.served.join(name))? == content, "{name} isn't in the share's directory");
    bench.check_local("received", &content)?;
    bench.client.run(&format!("del \"{name}\""))?;
    ensure!(!bench.served.join(name).exists(), "{name} is still there");
    Ok(())
}

/// Attribute letters and size of a name in smbclient's listing: `  NAME   FLAGS   SIZE  Day Mon DD HH:MM:SS YYYY`.
fn listed(output: &str, name: &str) -> Option<(String, u64)> {
    output.lines().find_map(|line| {
        let rest = line.strip_prefix("  ")?.strip_prefix(name)?;
        let fields: Vec<&str> = rest.starts_with(' ').then(|| rest.split_whitespace().collect())?;
        let date = fields.len().checked_sub(5)?;
        match fields.get(..date)? {
            [size] => Some((String::new(), size.parse().ok()?)),
            [flags, size] => Some(((*flags).to_owned(), size.parse().ok()?)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read_by_whole_names() {
        let output = "  .                                   D        0  Sat Nov 21 10:00:00 2026
  a b                                 A     1234  Sat Nov 21 10:00:00 2026
  plain                               N       12  Sat Nov  1 10:00:00 2026

\t\t100 blocks of size 1024. 50 blocks available\n";
        assert_eq!(listed(output, "."), Some(("D".into(), 0)));
        assert_eq!(listed(output, "a b"), Some(("A".into(), 1234)));
        assert_eq!(listed(output, "plain"), Some(("N".into(), 12)));
        assert_eq!(listed(output, "a"), None);
        assert_eq!(listed(output, "b"), None);
    }
}
