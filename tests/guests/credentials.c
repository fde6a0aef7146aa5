// Users, groups and capabilities, and what files they open. Each deed starts as root, and works in the
// current directory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SAY(call) say(#call, call)

static void say(const char *what, long result) {
	printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
}

static void who(void) {
	uid_t r, e, s;
	gid_t gr, ge, gs;
	getresuid(&r, &e, &s);
	getresgid(&gr, &ge, &gs);
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	syscall(SYS_capget, &header, data);
	gid_t groups[16];
	int n = getgroups(16, groups);
	// Some hosts withhold CAP_SYS_RESOURCE from root.
	const unsigned mask = ~(1u << CAP_SYS_RESOURCE);
	printf("  uid %d %d %d %d gid %d %d %d groups %d caps %08x %08x dumpable %d keep %d\n", r, e, s, setfsuid(-1),
	       gr, ge, gs, n, data[0].effective & mask, data[0].permitted & mask, prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS));
}

static int keep_caps(unsigned effective, unsigned permitted) {
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{effective, permitted, 0}};
	return syscall(SYS_capset, &header, data);
}

static void make(const char *path, int mode, int uid, int gid) {
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	if (write(fd, "x", 1) < 0 || fchown(fd, uid, gid) || fchmod(fd, mode))
		perror(path);
	close(fd);
}

static void make_dir(const char *path, int mode, int uid) {
	mkdir(path, 0700);
	if (chown(path, uid, uid) || chmod(path, mode))
		perror(path);
}

static void ids(void) {
	who();
	SAY(setresuid(-1, 1000, -1)), who();
	SAY(setuid(0)), who();
	SAY(setreuid(1000, 2000)), who();
	SAY(setreuid(-1, 1000)), who();
	SAY(setuid(2000)), who();
	SAY(setresuid(0, -1, -1)), who();
	SAY(setuid(0)), who();
	SAY(setgid(5)), who();
	SAY(setgroups(0, NULL)), who();
	SAY(setuid(-1));
	SAY(kill(1, 0));
	SAY(kill(1, 65));
}

static void groups(void) {
	gid_t list[] = {30, 10, 20};
	SAY(setgroups(3, list));
	SAY(setgroups(65537, list));
	SAY(setregid(7, 8)), who();
	SAY(getgroups(2, list));
	SAY(getgroups(-1, list));
	SAY(getgroups(0, NULL));
	SAY(setresgid(1, 2, 3)), who();
	SAY(setuid(1000)), who();
	SAY(setgid(3)), who();
	SAY(setgid(4)), who();
	SAY(setregid(2, 1)), who();
}

static void capabilities(void) {
	SAY(prctl(PR_SET_KEEPCAPS, 1)), who();
	SAY(setuid(1000)), who();
	SAY(open("secret", O_RDONLY));
	SAY(keep_caps(1 << CAP_DAC_READ_SEARCH | 1 << CAP_SETUID, 1 << CAP_DAC_READ_SEARCH | 1 << CAP_SETUID)), who();
	SAY(open("secret", O_RDONLY));
	SAY(open("secret", O_WRONLY));
	SAY(keep_caps(1 << CAP_CHOWN, 1 << CAP_CHOWN));
	SAY(setresuid(3, 4, 5)), who();
	SAY(setfsuid(9)), who();
	SAY(prctl(PR_CAPBSET_DROP, 3));
	SAY(prctl(PR_CAPBSET_READ, 3));
	SAY(prctl(PR_CAPBSET_READ, 41));
	SAY(prctl(PR_SET_KEEPCAPS, 2));
	SAY(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
	SAY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	SAY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	SAY(prctl(PR_SET_DUMPABLE, 2));
	SAY(prctl(PR_SET_PDEATHSIG, 65));
	SAY(prctl(PR_SET_SECUREBITS, 1));
	SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 2, 0, 0));
	SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	SAY(sethostname("x", 1));
	SAY(setpriority(PRIO_PROCESS, 0, 5));
	SAY(setpriority(PRIO_PROCESS, 0, 0));
	printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_max += 1;
	SAY(setrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_max = 64, limit.rlim_cur = 65;
	SAY(setrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 64;
	SAY(setrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_max = 65;
	SAY(setrlimit(RLIMIT_NOFILE, &limit));
}

static void files(void) {
	make("secret", 0600, 0, 0);
	make("mine", 0600, 1000, 1000);
	make("group", 0060, 0, 50);
	make("group-only", 0640, 0, 60);
	make("all", 0604, 0, 0);
	make("nobody", 0070, 1000, 0);
	make("program", 0700, 0, 0);
	make_dir("closed", 0700, 0);
	make("closed/inside", 0644, 0, 0);
	make_dir("search", 0711, 0);
	make("search/inside", 0644, 0, 0);
	make_dir("read", 0744, 0);
	make_dir("open", 0777, 0);
	make_dir("sticky", 01777, 0);
	make("sticky/theirs", 0666, 0, 0);
	make("sticky/ours", 0666, 1000, 0);
	make_dir("sticky/dir", 0777, 0);
	make_dir("own", 0755, 1000);
	make("own/theirs", 0600, 0, 0);
	make_dir("own/sub", 0555, 1000);
	make_dir("own/other", 0777, 0);
	make("set-id", 06755, 1000, 1000);
	make_dir("team", 0777, 70);
	chmod("team", 02777);
	gid_t list[] = {50};
	setgroups(1, list);
	SAY(setresgid(1000, 1000, 0));
	SAY(setresuid(1000, 1000, 0));
	const char *paths[] = {"secret", "mine", "group", "group-only", "all", "nobody", "closed", "closed/inside",
			       "closed/missing", "search", "search/inside", "search/missing", "read", "read/missing",
			       "secret/x", "closed/..", "closed/.", "own/theirs", "/proc/self/environ", "/proc/1/environ"};
	for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
		printf("%s:\n", paths[i]);
		SAY(open(paths[i], O_RDONLY));
		SAY(open(paths[i], O_WRONLY | O_NONBLOCK));
		SAY(open(paths[i], O_RDWR | O_APPEND));
		SAY(open(paths[i], O_PATH));
		struct stat st;
		SAY(stat(paths[i], &st));
		SAY(access(paths[i], R_OK));
		SAY(faccessat(AT_FDCWD, paths[i], W_OK | X_OK, AT_EACCESS));
	}
	SAY(truncate("secret", 0));
	SAY(truncate("mine", 0));
	SAY(chdir("closed"));
	SAY(chdir("search"));
	SAY(chdir(".."));
	SAY(chmod("secret", 0666));
	SAY(chmod("mine", 02644));
	SAY(chown("mine", 0, -1));
	SAY(chown("mine", 1000, -1));
	SAY(chown("mine", -1, 50));
	SAY(chown("mine", -1, 51));
	SAY(chown("secret", -1, -1));
	SAY(utimensat(AT_FDCWD, "secret", NULL, 0));
	SAY(utimensat(AT_FDCWD, "all", NULL, 0));
	SAY(utimensat(AT_FDCWD, "group", NULL, 0));
	struct timespec times[2] = {{1, 0}, {2, 0}};
	SAY(utimensat(AT_FDCWD, "group", times, 0));
	SAY(utimensat(AT_FDCWD, "mine", times, 0));
	SAY(mkdir("search/new", 0755));
	SAY(mkdir("open/new", 0755));
	SAY(mkdir("open/new", 0755));
	SAY(mkdir("closed/new", 0755));
	SAY(open("search/new", O_CREAT | O_WRONLY, 0600));
	SAY(open("open/file", O_CREAT | O_RDWR, 0));
	SAY(open("open/file", O_RDWR));
	SAY(symlink("x", "search/link"));
	SAY(symlink("x", "open/link"));
	SAY(link("mine", "open/mine"));
	SAY(link("mine", "search/mine"));
	SAY(mkfifo("search/fifo", 0600));
	SAY(unlink("search/inside"));
	SAY(unlink("search/missing"));
	SAY(unlink("closed"));
	SAY(rmdir("search/inside"));
	SAY(rmdir("read"));
	SAY(unlink("sticky/theirs"));
	SAY(unlink("sticky/ours"));
	SAY(rmdir("sticky/dir"));
	SAY(rename("sticky/theirs", "sticky/other"));
	SAY(rename("own/theirs", "open/theirs"));
	SAY(rename("open/theirs", "sticky/theirs"));
	SAY(rename("own/sub", "open/sub"));
	SAY(rename("own/other", "open/other"));
	SAY(rename("mine", "open/mine2"));
	SAY(execl("program", "program", NULL));
	SAY(execl("closed/inside", "program", NULL));
	SAY(unlink("own/theirs"));
	struct stat st;
	stat("open/new", &st);
	printf("new: %d %d %o\n", st.st_uid, st.st_gid, st.st_mode);
	// In a directory that gives its group away, to who is not in it.
	mode_t mask = umask(0);
	const char *made[] = {"team/a", "team/b", "team/c", "team/d"};
	SAY(open(made[0], O_CREAT | O_WRONLY, 02775));
	SAY(open(made[1], O_CREAT | O_WRONLY, 02764));
	SAY(mkdir(made[2], 0755));
	SAY(mkfifo(made[3], 02711));
	umask(mask);
	for (int i = 0; i < 4; i++)
		stat(made[i], &st), printf("%s: %d %d %o\n", made[i], st.st_uid, st.st_gid, st.st_mode);
	int fd = open("set-id", O_WRONLY);
	SAY(write(fd, "y", 1));
	fstat(fd, &st);
	printf("set-id after a write: %o\n", st.st_mode);
	// The saved id is still root's.
	SAY(setresuid(-1, 0, -1));
	SAY(open("secret", O_RDONLY));
	SAY(access("secret", R_OK));
	SAY(faccessat(AT_FDCWD, "secret", R_OK, AT_EACCESS));
}

static void set_id(const char *self) {
	// A copy of this program that runs as its owner.
	char command[4200];
	int from = open(self, O_RDONLY), to = open("set-id-program", O_CREAT | O_WRONLY, 0755);
	char buffer[65536];
	for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
		write(to, buffer, n);
	close(to);
	SAY(chmod("set-id-program", 04755));
	SAY(setuid(1000));
	execl("./set-id-program", "set-id-program", "who", NULL);
	perror("execl");
}

int main(int argc, char **argv) {
	setvbuf(stdout, NULL, _IONBF, 0);
	umask(022);
	char self[4096];
	if (!realpath(argv[0], self))
		strcpy(self, argv[0]);
	if (argc > 1) {
		mkdir("work", 0755);
		if (chdir("work"))
			perror("work");
	}
	make("secret", 0600, 0, 0);
	const char *deed = argc > 1 ? argv[1] : "";
	if (!strcmp(deed, "ids"))
		ids();
	else if (!strcmp(deed, "groups"))
		groups();
	else if (!strcmp(deed, "capabilities"))
		capabilities();
	else if (!strcmp(deed, "files"))
		files();
	else if (!strcmp(deed, "set-id"))
		set_id(self);
	else
		who();
	return 0;
}
