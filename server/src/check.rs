//! `leasehold check`.

use crate::cli::CheckArguments;
use crate::failure::{Failure, Outcome};
use crate::{config, users};

pub(crate) fn run(arguments: &CheckArguments) -> Outcome<()> {
    let settings = config::load(&arguments.config)?;
    let path = arguments.config.display();
    let Some(users_file) = &settings.users_file else {
        println!("{path}: good, {} shares, no users file", settings.shares.len());
        return Ok(());
    };
    let table = users::load(users_file).map_err(|error| Failure::new(error.to_string()))?;
    for share in &settings.shares {
        if let Some(name) = share.users.iter().flatten().find(|name| table.get(name).is_none()) {
            return Err(Failure::new(format!("{path}: share {}: there is no user {name}", share.name)));
        }
    }
    println!("{path}: good, {} shares, {} users", settings.shares.len(), table.iter().count());
    Ok(())
}
