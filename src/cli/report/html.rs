//! Text in a page.

use std::fmt::{self, Write};

/// Text out of a recording: whatever is in it, it is shown and nothing else. Control characters but line ends and
/// tabs, and those that turn the direction of writing, are escaped.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(f, "{}", c.escape_unicode())?;
                }
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Nanoseconds as seconds.
pub fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let text = Text("<b title='x' id=\"y\">&amp;\n\x1b[31m\u{202e}\u{e9}").to_string();
        assert_eq!(text, "&lt;b title=&#39;x&#39; id=&quot;y&quot;&gt;&amp;amp;\n\\u{1b}[31m\\u{202e}\u{e9}");
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!((seconds(0), seconds(61_000_002_999)), ("0.000000".into(), "61.000002".into()));
    }
}
