//! Passwords from the terminal, from standard input and from the environment.

use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{About, Failure, Outcome};

type Password = Zeroizing<String>;

/// Bytes of a line that is taken for a password.
const LENGTH_MAX: u64 = 1024;

/// A new password: typed twice without an echo, or one line when standard input is not a terminal.
pub(crate) fn ask(user: &str) -> Outcome<Password> {
    if !stdin().is_terminal() {
        return line(&mut stdin().lock());
    }
    let first = typed(&format!("New password of {user}: "))?;
    let again = typed("The same again: ")?;
    if first != again {
        return Err(Failure::new("the passwords differ"));
    }
    Ok(first)
}

fn typed(prompt: &str) -> Outcome<Password> {
    eprint!("{prompt}");
    stderr().flush().about("terminal")?;
    let quiet = Quiet::start()?;
    let line = line(&mut stdin().lock());
    drop(quiet);
    eprintln!();
    line
}

fn line(input: &mut impl BufRead) -> Outcome<Password> {
    // Room for all of it at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(LENGTH_MAX as usize + 1));
    input.take(LENGTH_MAX + 1).read_line(&mut text).about("password")?;
    let length = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(length);
    match length {
        0 => Err(Failure::new("the password is empty")),
        1.. if length as u64 > LENGTH_MAX => Err(Failure::new("the password is too long")),
        _ => Ok(text),
    }
}

/// The terminal echoes nothing while this lives.
struct Quiet(Termios);

impl Quiet {
    fn start() -> Outcome<Self> {
        let before = tcgetattr(stdin()).about("terminal")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(stdin(), OptionalActions::Flush, &silent).about("terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// The environment variable with a user's password.
pub(crate) fn variable(user: &str) -> String {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' }
    };
    format!("LEASEHOLD_PASSWORD_{}", user.chars().map(plain).collect::<String>())
}

/// A user's password from the environment.
pub(crate) fn from_environment(user: &str) -> Outcome<Password> {
    let variable = variable(user);
    match std::env::var(&variable) {
        Ok(password) if !password.is_empty() => Ok(Zeroizing::new(password)),
        Ok(_) => Err(Failure::new(format!("{variable} with the password of --user {user} is empty"))),
        Err(std::env::VarError::NotPresent) => {
            Err(Failure::new(format!("set {variable} to the password of --user {user}")))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::new(format!("{variable} is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_the_password() {
        for (input, password) in
            [("secret\nmore", "secret"), ("secret\r\n", "secret"), (" pass word ", " pass word ")]
        {
            assert_eq!(*line(&mut input.as_bytes()).unwrap(), password);
        }
        assert!(line(&mut "\n".as_bytes()).is_err());
        assert!(line(&mut "".as_bytes()).is_err());
        assert!(line(&mut "x".repeat(1025).as_bytes()).is_err());
        assert_eq!(line(&mut "x".repeat(1024).as_bytes()).unwrap().len(), 1024);
    }

    #[test]
    fn the_variable_is_one_that_a_shell_can_set() {
        assert_eq!(variable("ann"), "LEASEHOLD_PASSWORD_ANN");
        assert_eq!(variable("ann.smith-2"), "LEASEHOLD_PASSWORD_ANN_SMITH_2");
        assert_eq!(variable("jörg"), "LEASEHOLD_PASSWORD_J_RG");
    }

    #[test]
    fn a_missing_password_says_which_variable_to_set() {
        let failure = from_environment("nobody at all").unwrap_err().to_string();
        assert!(failure.contains("LEASEHOLD_PASSWORD_NOBODY_AT_ALL"), "{failure}");
    }
}
