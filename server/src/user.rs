//! `leasehold user`.

use std::path::PathBuf;

use crate::cli::{UserAction, UserArguments};
use crate::failure::{About, Failure, Outcome};
use crate::{password, state, users};

pub(crate) fn run(arguments: &UserArguments) -> Outcome<()> {
    let path = match &arguments.users_file {
        Some(path) => path.clone(),
        None => default_file(matches!(arguments.action, UserAction::Add { .. }))?,
    };
    match &arguments.action {
        UserAction::Add { name } => {
            users::check_name(name)?;
            let password = password::ask(name)?;
            let new = users::change(&path, |table| table.set(name, &password))?;
            println!(
                "{} {name} in {}",
                if new { "added" } else { "changed the password of" },
                path.display()
            );
        }
        UserAction::Remove { name } => {
            users::change(&path, |table| match table.remove(name) {
                true => Ok(()),
                false => Err(Failure::new(format!("{}: there is no user {name}", path.display()))),
            })?;
            println!("removed {name} from {}", path.display());
        }
        UserAction::List => {
            let table = users::load(&path).map_err(|error| Failure::new(error.to_string()))?;
            for user in table.iter() {
                println!("{}\t{}", user.number, user.name);
            }
        }
    }
    Ok(())
}

/// The users file in the default state directory, which is made when there is something to put there.
fn default_file(make: bool) -> Outcome<PathBuf> {
    let directory =
        state::default_directory().ok_or(Failure::new("there is no home directory; give --users-file"))?;
    if make {
        state::make_directory(&directory).about_path(&directory)?;
    }
    Ok(directory.join("users"))
}
