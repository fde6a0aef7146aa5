//! The texts of `/proc` that are the same in every run: one CPU, no other users.

use super::super::env::ProcFile;

/// Where a text comes from.
pub(super) enum Source {
    /// Asked of the rest of the monitor, or [`built_in`].
    Asked(ProcFile),
    /// Always this.
    Fixed(&'static str),
}

/// The system's files, by path below `/proc`.
pub(super) const SYSTEM: &[(&str, Source)] = &[
    ("meminfo", Source::Asked(ProcFile::MemInfo)),
    ("cpuinfo", Source::Asked(ProcFile::CpuInfo)),
    ("stat", Source::Asked(ProcFile::SystemStat)),
    ("uptime", Source::Asked(ProcFile::Uptime)),
    ("loadavg", Source::Asked(ProcFile::LoadAvg)),
    ("version", Source::Asked(ProcFile::Version)),
    ("filesystems", Source::Asked(ProcFile::Filesystems)),
    ("cgroups", Source::Asked(ProcFile::Cgroups)),
    ("cmdline", Source::Fixed("\n")),
    (
        "devices",
        Source::Fixed("Character devices:\n  1 mem\n  5 /dev/tty\n 10 misc\n136 pts\n\nBlock devices:\n"),
    ),
    ("diskstats", Source::Fixed("")),
    ("modules", Source::Fixed("")),
    ("partitions", Source::Fixed("major minor  #blocks  name\n\n")),
    ("swaps", Source::Fixed("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
    ("vmstat", Source::Fixed("nr_free_pages 0\npgfault 0\npgmajfault 0\n")),
    ("net/unix", Source::Asked(ProcFile::NetUnix)),
    ("sys/kernel/ngroups_max", Source::Fixed("65536\n")),
    ("sys/kernel/osrelease", Source::Asked(ProcFile::OsRelease)),
    ("sys/kernel/ostype", Source::Fixed("Linux\n")),
    ("sys/kernel/hostname", Source::Asked(ProcFile::Hostname)),
    ("sys/kernel/domainname", Source::Asked(ProcFile::DomainName)),
    ("sys/kernel/random/boot_id", Source::Asked(ProcFile::BootId)),
    ("sys/kernel/random/uuid", Source::Asked(ProcFile::Uuid)),
    ("sys/kernel/random/entropy_avail", Source::Fixed("256\n")),
    ("sys/kernel/pid_max", Source::Fixed("32768\n")),
    ("sys/kernel/threads-max", Source::Fixed("32768\n")),
    ("sys/kernel/cap_last_cap", Source::Fixed("40\n")),
    ("sys/kernel/core_pattern", Source::Fixed("core\n")),
    ("sys/kernel/randomize_va_space", Source::Fixed("2\n")),
    ("sys/kernel/overflowuid", Source::Fixed("65534\n")),
    ("sys/kernel/overflowgid", Source::Fixed("65534\n")),
    ("sys/kernel/shmmax", Source::Fixed("18446744073692774399\n")),
    ("sys/vm/overcommit_memory", Source::Fixed("1\n")),
    ("sys/vm/max_map_count", Source::Fixed("65530\n")),
    ("sys/vm/mmap_min_addr", Source::Fixed("65536\n")),
    ("sys/vm/nr_hugepages", Source::Fixed("0\n")),
    ("sys/fs/file-max", Source::Fixed("65536\n")),
    ("sys/fs/nr_open", Source::Fixed("65536\n")),
    ("sys/fs/pipe-max-size", Source::Fixed("1048576\n")),
    ("sys/net/core/somaxconn", Source::Fixed("4096\n")),
    ("sys/net/core/wmem_default", Source::Fixed("212992\n")),
    ("sys/net/core/wmem_max", Source::Fixed("212992\n")),
    ("sys/net/unix/max_dgram_qlen", Source::Fixed("10\n")),
    ("sys/net/ipv4/ip_local_port_range", Source::Fixed("32768\t60999\n")),
    ("sys/kernel/shmall", Source::Fixed("18446744073692774399\n")),
    ("sys/kernel/shmmni", Source::Fixed("4096\n")),
    ("sys/kernel/shm_rmid_forced", Source::Fixed("0\n")),
    ("sys/kernel/sem", Source::Fixed("32000\t1024000000\t500\t32000\n")),
    ("sys/kernel/msgmax", Source::Fixed("8192\n")),
    ("sys/kernel/msgmnb", Source::Fixed("16384\n")),
    ("sys/kernel/msgmni", Source::Fixed("32000\n")),
    ("sys/fs/mqueue/msg_default", Source::Fixed("10\n")),
    ("sys/fs/mqueue/msg_max", Source::Fixed("10\n")),
    ("sys/fs/mqueue/msgsize_default", Source::Fixed("8192\n")),
    ("sys/fs/mqueue/msgsize_max", Source::Fixed("8192\n")),
    ("sys/fs/mqueue/queues_max", Source::Fixed("256\n")),
    ("sysvipc/shm", Source::Asked(ProcFile::SharedMemory)),
    ("sysvipc/sem", Source::Asked(ProcFile::Semaphores)),
    ("sysvipc/msg", Source::Asked(ProcFile::MessageQueues)),
];

/// The text of a file that nobody else gives a text for.
pub(super) fn built_in(file: ProcFile) -> &'static str {
    match file {
        ProcFile::Cgroup => "0::/\n",
        ProcFile::Mounts => MOUNTS,
        ProcFile::MountInfo => MOUNT_INFO,
        ProcFile::OomScore | ProcFile::OomScoreAdj => "0\n",
        ProcFile::CoredumpFilter => "00000033\n",
        ProcFile::LoginUid | ProcFile::SessionId => "4294967295",
        ProcFile::Wchan => "0",
        ProcFile::Syscall => "running\n",
        ProcFile::UidMap | ProcFile::GidMap => "         0          0 4294967295\n",
        ProcFile::SetGroups => "allow\n",
        ProcFile::SchedStat => "0 0 0\n",
        ProcFile::Io => IO,
        ProcFile::MountStats => MOUNT_STATS,
        ProcFile::DomainName => "(none)\n",
        ProcFile::SystemStat => SYSTEM_STAT,
        ProcFile::Uptime => "1.00 0.00\n",
        ProcFile::LoadAvg => "0.00 0.00 0.00 1/1 1\n",
        ProcFile::Version => "Linux version 6.1.0 (dejavm) #1 SMP\n",
        ProcFile::Filesystems => {
            "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tdevpts\n\
             nodev\toverlay\n"
        }
        ProcFile::Cgroups => "#subsys_name\thierarchy\tnum_cgroups\tenabled\n",
        ProcFile::OsRelease => "6.1.0\n",
        ProcFile::Hostname => "dejavm\n",
        ProcFile::BootId => "64656a61-766d-4000-8000-000000000001\n",
        _ => "",
    }
}

const MOUNTS: &str = "\
overlay / overlay rw,noatime 0 0
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0
devtmpfs /dev devtmpfs rw,nosuid,relatime 0 0
devpts /dev/pts devpts rw,nosuid,noexec,relatime 0 0
tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0
";

const IO: &str =
    "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n";

const MOUNT_STATS: &str = "\
device overlay mounted on / with fstype overlay
device proc mounted on /proc with fstype proc
device sysfs mounted on /sys with fstype sysfs
device devtmpfs mounted on /dev with fstype devtmpfs
device devpts mounted on /dev/pts with fstype devpts
device tmpfs mounted on /dev/shm with fstype tmpfs
";

const MOUNT_INFO: &str = "\
20 1 0:30 / / rw,noatime - overlay overlay rw
21 20 0:22 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
22 20 0:21 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs rw
23 20 0:5 / /dev rw,nosuid,relatime - devtmpfs devtmpfs rw
24 23 0:24 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw
25 23 0:25 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw
";

const SYSTEM_STAT: &str = "\
cpu  0 0 0 0 0 0 0 0 0 0
cpu0 0 0 0 0 0 0 0 0 0 0
intr 0
ctxt 0
btime 0
processes 1
procs_running 1
procs_blocked 0
";

/// A random (version 4) UUID as the kernel prints it.
pub(super) fn uuid(mut b: [u8; 16]) -> Vec<u8> {
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let mut out = String::with_capacity(37);
    for (n, byte) in b.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out.push('\n');
    out.into_bytes()
}
