//! Patterns of paths, as a shell has them.

/// A pattern: `*` stands for anything but a slash, `**` for anything, `?` for one character but a slash; a backslash
/// takes the meaning from the next character. Without a slash in front it is the end of a path: of `conf`,
/// `/etc/conf` is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// One byte that is no slash.
    One,
    /// Any number of them.
    Name,
    /// Any number of any bytes.
    All,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Pattern {
        let text = text.strip_prefix("./").unwrap_or(text).as_bytes();
        let mut parts = Vec::with_capacity(text.len());
        if text.first() != Some(&b'/') {
            parts.extend([Part::All, Part::Byte(b'/')]);
        }
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            at += 1;
            parts.push(match (byte, text.get(at)) {
                (b'*', Some(b'*')) => {
                    at += 1;
                    Part::All
                }
                (b'*', _) => Part::Name,
                (b'?', _) => Part::One,
                (b'\\', Some(next)) => {
                    at += 1;
                    Part::Byte(*next)
                }
                (byte, _) => Part::Byte(*byte),
            });
        }
        Pattern { parts }
    }

    /// Whether an absolute path is one of these. The work is the product of their lengths at most.
    pub fn matches(&self, path: &[u8]) -> bool {
        // Of each beginning of the path, whether it is what the parts so far stand for.
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            match part {
                Part::Byte(_) | Part::One => {
                    for at in (0..path.len()).rev() {
                        let fits = match part {
                            Part::Byte(byte) => path[at] == *byte,
                            _ => path[at] != b'/',
                        };
                        reached[at + 1] = reached[at] && fits;
                    }
                    reached[0] = false;
                }
                Part::Name | Part::All => {
                    for at in 0..path.len() {
                        let goes_on = *part == Part::All || path[at] != b'/';
                        reached[at + 1] |= reached[at] && goes_on;
                    }
                }
            }
        }
        reached[path.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        let matches = |pattern: &str, path: &str| Pattern::new(pattern).matches(path.as_bytes());
        for (pattern, path) in [
            ("/etc/passwd", "/etc/passwd"),
            ("passwd", "/etc/passwd"),
            ("etc/passwd", "/etc/passwd"),
            ("./passwd", "/etc/passwd"),
            ("*.so", "/lib/x.so"),
            ("lib*", "/usr/lib/libc.so.6"),
            ("/etc/**", "/etc/ssl/certs/a"),
            ("/usr/**/a?c", "/usr/x/y/abc"),
            (r"a\*b", "/a*b"),
            ("*", "/etc"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("sswd", "/etc/passwd"),
            ("/etc/*", "/etc/ssl/certs"),
            ("lib*", "/lib/x.so"),
            ("a?c", "/a/c"),
            (r"a\*b", "/aab"),
            ("", "/etc"),
            ("/etc", "/etc/passwd"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let path = vec![b'a'; 8192];
        assert!(!Pattern::new(&format!("/{}b", "*a".repeat(500))).matches(&path));
    }
}
