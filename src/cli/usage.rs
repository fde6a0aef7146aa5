//! What clap has to say: help goes out as it is, errors become one line.

use std::io::{self, Write};

use clap::error::ErrorKind;

use super::failure::{say, status};

/// Prints it and gives the exit status.
pub fn report(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = write!(io::stderr(), "{}", error.render());
            status::FAILED
        }
        _ => {
            say(one_line(&error.to_string()));
            status::FAILED
        }
    }
}

/// clap's message without its usage and its markup, on one line.
fn one_line(text: &str) -> String {
    let mut parts = Vec::new();
    let mut help = "try 'dejavm --help'".to_owned();
    for paragraph in text.split("\n\n") {
        let line = paragraph.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
        let line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
        if let Some(usage) = line.strip_prefix("Usage: dejavm ") {
            if let Some(command) =
                usage.split(' ').next().filter(|c| c.bytes().all(|b| b.is_ascii_lowercase()))
            {
                help = format!("try 'dejavm {command} --help'");
            }
        } else if !line.is_empty() && !line.starts_with("For more information") {
            parts.push(line);
        }
    }
    parts.push(help);
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_is_one_line() {
        let text = "error: the following required arguments were not provided:\n  <PROGRAM>...\n\n\
                    Usage: dejavm run <PROGRAM>...\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(text),
            "the following required arguments were not provided: <PROGRAM>...; try 'dejavm run --help'"
        );
    }
}
