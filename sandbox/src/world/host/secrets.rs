//! What of the system's own directories a guest is not shown.
//!
//! The rule, which `docs/view.md` has for users: what others than owner and group may not read is not
//! there, and in the directory of settings neither is what has one of the names below. A hidden file
//! is as if it did not exist: it is in no listing, and to open it gives `ENOENT`.

use rustix::fs::{FileType, Stat};

/// Names in the directory of settings that are not shown, with all that is in them.
///
/// Accounts; what tells this machine from others, which also would make runs differ from host to host;
/// what connects it to others; services that keep credentials among their settings.
#[rustfmt::skip]
pub const TOP: &[&str] = &[
    // Accounts.
    "doas.conf", "group-", "gshadow*", "passwd-", "shadow*", "subgid-", "subuid-", "sudoers*",
    // This machine.
    "adjtime", "crypttab", "environment*", "exports*", "fstab", "hostname", "hosts", "machine-id",
    "mailname", "mtab", "resolv.conf",
    // Networks.
    "NetworkManager", "chatscripts", "cloudflared", "ipsec*", "nebula", "netplan", "network",
    "openfortivpn", "openvpn", "ppp", "strongswan*", "swanctl", "tinc", "vpnc", "wireguard",
    "wpa_supplicant", "wvdial.conf",
    // Services and programs that are given credentials.
    "acme*", "aws*", "azure*", "bacula", "borg*", "boto.cfg", "cloud", "cni", "consul*", "containerd",
    "containers", "corosync", "cups", "default", "docker", "dovecot", "drbd*", "duplicity",
    "elasticsearch", "etcd", "exim4", "freeradius", "google*", "grafana", "icinga*", "influxdb", "iscsi",
    "krb5kdc", "kubernetes", "ldap", "letsencrypt", "libnss-ldap*", "libvirt", "mail", "mongod.conf",
    "msmtprc", "munin", "mysql", "nagios*", "nomad*", "npmrc", "nslcd.conf", "nullmailer", "openldap",
    "pacemaker", "pam_ldap*", "pip.conf", "postfix", "postgresql", "prometheus", "rabbitmq", "raddb",
    "rancher", "rclone*", "redis", "restic", "samba", "sendmail", "ssmtp", "sssd", "vault*", "xen",
    "yum.repos.d", "zabbix",
];

/// Names that are not shown anywhere in the directory of settings.
#[rustfmt::skip]
pub const ANYWHERE: &[&str] = &[
    "*.jks", "*.kdb*", "*.key", "*.keytab", "*.ovpn", "*.p12", "*.pfx", "*_rsa_key", "*credential*",
    "*htpasswd*", "*netrc", "*password*", "*pgpass*", "*private*", "*secret*", "*token*", "auth.conf*",
    "auth.json", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_rsa*", "opasswd", "sources.list*",
    "ssh_host_*_key",
];

/// Keys, too, unless they lie in a directory of certificates.
pub const PEM: &str = "*.pem";

/// Directories of certificates.
const CERTIFICATES: [&[u8]; 2] = [b"certs", b"ca-certificates"];

/// Others may read.
const OTHERS_READ: u32 = 0o004;
/// Others may read a directory and go through it.
const OTHERS_PASS: u32 = 0o005;

/// Whether a name has the form of a pattern: stars stand at its ends or once in its middle.
fn matches(pattern: &str, name: &[u8]) -> bool {
    let mut parts = pattern.as_bytes().split(|b| *b == b'*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.windows(part.len().max(1)).position(|window| window.starts_with(part)) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Whether a path in the directory of settings has a name that is not shown.
pub(super) fn hides_path(path: &[u8]) -> bool {
    let mut certificates = false;
    for (depth, name) in path.split(|b| *b == b'/').enumerate() {
        let of = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, name));
        if depth == 0 && of(TOP) || of(ANYWHERE) || matches(PEM, name) && !certificates {
            return true;
        }
        certificates |= CERTIFICATES.contains(&name);
    }
    false
}

/// Whether others may not read it.
pub(super) fn hides_mode(stat: &Stat) -> bool {
    let wanted = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => return false,
        FileType::Directory => OTHERS_PASS,
        _ => OTHERS_READ,
    };
    stat.st_mode & wanted != wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_forms() {
        for (pattern, name) in [
            ("a", "a"),
            ("a*", "abc"),
            ("*a", "cba"),
            ("*a*", "bab"),
            ("ssh_host_*_key", "ssh_host_rsa_key"),
            ("*", ""),
        ] {
            assert!(matches(pattern, name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("a*", "ba"),
            ("*a", "ab"),
            ("*a*", "bcd"),
            ("ssh_host_*_key", "ssh_host_rsa_key.pub"),
        ] {
            assert!(!matches(pattern, name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn secrets_are_hidden_and_settings_are_not() {
        for hidden in [
            "shadow",
            "shadow-",
            "gshadow",
            "sudoers.d/x",
            "ssl/private/a",
            "ssl/a.pem",
            "a/b.key",
            "ssh/ssh_host_ed25519_key",
            "machine-id",
            "wpa_supplicant/a.conf",
            "x/.git-credentials",
            "apt/auth.conf.d/a",
            "php/8.2/db-password.ini",
            "security/opasswd",
        ] {
            assert!(hides_path(hidden.as_bytes()), "{hidden}");
        }
        for shown in [
            "passwd",
            "group",
            "ssl/certs/a.pem",
            "ssl/openssl.cnf",
            "php/8.2/cli/conf.d/20-curl.ini",
            "racket/config.rktd",
            "ld.so.cache",
            "pki/tls/certs/ca.pem",
            "alternatives/java",
            "ssh/ssh_config",
            "ssh/ssh_host_rsa_key.pub",
            "java-17-openjdk/security/java.security",
        ] {
            assert!(!hides_path(shown.as_bytes()), "{shown}");
        }
    }
}
