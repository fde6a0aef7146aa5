//! Places that a program comes to: where it is paused for its inputs, and where a run is over.

use std::fmt;
use std::str::FromStr;

use dejavm::{Outcome, PauseAt, Sandbox};

use crate::Error;

/// A place that a program comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Where it says that it is ready, by writing `snapshot` to `/dev/dejavm`.
    Ready,
    /// The first instruction of what has this symbol, as it stands in the file of the executable or of a library.
    Symbol(String),
    /// The instruction at this address.
    Address(u64),
    /// The instruction so many bytes behind where a file is loaded, which is given by its path in the guest or by its name.
    Offset {
        /// The file.
        file: String,
        /// Bytes.
        offset: u64,
    },
}

/// A place that is known to be one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known {
    Ready,
    Address(u64),
}

impl Place {
    /// Runs a program that was just started until it comes here ([`Outcome::Paused`]), or ends. Its libraries are loaded
    /// before it is looked where that is.
    pub(crate) fn come_to(&self, sandbox: &mut Sandbox) -> Result<Outcome, Error> {
        if let Some(entry) = sandbox.entry() {
            match sandbox.run_to([entry])? {
                Outcome::Paused => {}
                outcome => return Ok(outcome),
            }
        }
        Ok(self.known(sandbox)?.run_to(sandbox)?)
    }

    /// Where that is in a program whose libraries are loaded.
    pub(crate) fn known(&self, sandbox: &Sandbox) -> Result<Known, Error> {
        let address = match self {
            Place::Ready => return Ok(Known::Ready),
            Place::Address(address) => *address,
            Place::Symbol(name) => {
                sandbox.symbol(name).ok_or_else(|| Error::NoSymbol { name: name.clone() })?
            }
            Place::Offset { file, offset } => {
                let address = sandbox.loaded_at(file).and_then(|start| start.checked_add(*offset));
                address.ok_or_else(|| Error::NoPlace { place: self.clone() })?
            }
        };
        Ok(Known::Address(address))
    }
}

impl Known {
    /// Runs on until the program comes here, or the run ends.
    pub fn run_to(self, sandbox: &mut Sandbox) -> Result<Outcome, dejavm::Error> {
        match self {
            Known::Ready => sandbox.run_until(PauseAt::Ready),
            Known::Address(address) => sandbox.run_to([address]),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    /// `ready`, a symbol, `0xADDRESS`, or `FILE+0xOFFSET`.
    fn from_str(text: &str) -> Result<Place, String> {
        let number = |text: &str| text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
        if text == "ready" {
            return Ok(Place::Ready);
        }
        if let Some(address) = number(text) {
            return Ok(Place::Address(address.map_err(|e| e.to_string())?));
        }
        if let Some((file, offset)) = text.rsplit_once('+')
            && let Some(offset) = number(offset)
        {
            return Ok(Place::Offset { file: file.into(), offset: offset.map_err(|e| e.to_string())? });
        }
        match text {
            "" => Err("it is empty".into()),
            name => Ok(Place::Symbol(name.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ready => f.write_str("ready"),
            Place::Symbol(name) => f.write_str(name),
            Place::Address(address) => write!(f, "{address:#x}"),
            Place::Offset { file, offset } => write!(f, "{file}+{offset:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_read() {
        let offset = Place::Offset { file: "/lib/libc++.so.1".into(), offset: 0x1f };
        for (text, place) in [
            ("ready", Place::Ready),
            ("main", Place::Symbol("main".into())),
            ("operator+", Place::Symbol("operator+".into())),
            ("0x401000", Place::Address(0x40_1000)),
            ("/lib/libc++.so.1+0x1f", offset),
        ] {
            assert_eq!(text.parse(), Ok(place.clone()));
            assert_eq!(place.to_string(), text);
        }
        for wrong in ["", "0x", "0xg", "0x11112222333344445", "libc.so.6+0xg"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
