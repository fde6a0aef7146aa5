// What `execve` gives and keeps: one deed a run, named by the first argument.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;
static const char *self;

static void handler(int signal) { (void)signal; }

static void write_file(const char *path, const char *text, int mode) {
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		exit(99);
	close(fd);
	chmod(path, mode);
}

static void try(const char *what, const char *path, char **args, char **env) {
	execve(path, args, env);
	printf("%s: %s\n", what, strerrorname_np(errno));
}

static void try_at(const char *what, int dir, const char *path, int flags) {
	char *args[] = {"x", NULL};
	syscall(SYS_execveat, dir, path, args, environ, flags);
	printf("%s: %s\n", what, strerrorname_np(errno));
}

// All the ways in which it fails. Files are made in the current directory.
static void errors(void) {
	char *args[] = {"x", NULL};
	mkdir("dir", 0755);
	write_file("plain", "echo no\n", 0755);
	write_file("noexec", "#!/bin/sh\necho no\n", 0644);
	write_file("badinterp", "#!/no/such/interpreter\n", 0755);
	write_file("dirinterp", "#!./dir\n", 0755);
	write_file("noname", "#!   \n", 0755);
	write_file("empty", "", 0755);
	write_file("loop0", "#!./loop0\n", 0755);
	write_file("elf", "\177ELF\2\1\1 not really a program", 0755);
	symlink("nowhere", "dangling");
	symlink("circle", "circle");
	symlink("plain", "link");
	try("missing", "missing", args, environ);
	try("empty path", "", args, environ);
	try("directory", "dir", args, environ);
	try("plain", "plain", args, environ);
	try("noexec", "noexec", args, environ);
	try("badinterp", "badinterp", args, environ);
	try("dirinterp", "dirinterp", args, environ);
	try("noname", "noname", args, environ);
	try("empty", "empty", args, environ);
	try("loop", "loop0", args, environ);
	try("elf", "elf", args, environ);
	try("dangling", "dangling", args, environ);
	try("circle", "circle", args, environ);
	try("device", "/dev/null", args, environ);
	try("beneath a file", "plain/x", args, environ);
	try("slash", "plain/", args, environ);
	try("bad path", (char *)8, args, environ);
	try("bad args", self, (char **)8, environ);
	try("bad env", self, args, (char **)8);
	char *bad[] = {"x", (char *)8, NULL};
	try("bad arg", self, bad, environ);
	try("bad arg of a missing file", "missing", bad, environ);
	char *huge = malloc(131073);
	memset(huge, 'a', 131072);
	huge[131072] = 0;
	char *one[] = {"x", huge, NULL};
	try("long string", self, one, environ);
	huge[131071] = 0;
	char **many = calloc(64, sizeof *many);
	for (int i = 0; i < 63; i++)
		many[i] = huge;
	try("many strings", self, many, environ);
	struct rlimit small = {1 << 20, 8 << 20};
	setrlimit(RLIMIT_STACK, &small);
	many[3] = NULL;
	try("little stack", self, many, environ);
	int fd = open("busy", O_CREAT | O_RDWR, 0755);
	write(fd, "#!/bin/sh\n", 10);
	try("busy", "busy", args, environ);
	close(fd);
	printf("write self: ");
	fd = open("/proc/self/exe", O_WRONLY);
	printf("%s\n", fd < 0 ? strerrorname_np(errno) : "opened");
	int dir = open(".", O_RDONLY | O_DIRECTORY), file = open("plain", O_RDONLY);
	try_at("at flags", dir, "plain", 0x4000);
	try_at("at nofollow", dir, "link", AT_SYMLINK_NOFOLLOW);
	try_at("at link", dir, "link", 0);
	try_at("at empty", dir, "", 0);
	try_at("at dir itself", dir, "", AT_EMPTY_PATH);
	try_at("at file itself", file, "", AT_EMPTY_PATH);
	try_at("at file", file, "x", 0);
	try_at("at bad", 77, "x", 0);
	try_at("at bad itself", 77, "", AT_EMPTY_PATH);
	int closes = open("badinterp", O_RDONLY | O_CLOEXEC);
	try_at("script by a descriptor", closes, "", AT_EMPTY_PATH);
}

// What stays and what goes: told before and after.
static void told(void) {
	struct sigaction action;
	for (int signal = 1; signal < 32; signal++) {
		if (sigaction(signal, NULL, &action) == 0 && (action.sa_handler || action.sa_flags))
			printf("signal %d: %s %x\n", signal, action.sa_handler == SIG_IGN ? "ignored" : "handled",
			       action.sa_flags & ~0x04000000);
	}
	sigset_t set;
	sigprocmask(SIG_BLOCK, NULL, &set);
	printf("blocked: %d %d\n", sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2));
	sigpending(&set);
	printf("pending: %d %d\n", sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2));
	stack_t stack;
	sigaltstack(NULL, &stack);
	printf("altstack: %d\n", stack.ss_flags & SS_DISABLE ? 0 : 1);
	struct itimerval timer;
	getitimer(ITIMER_REAL, &timer);
	printf("timer: %d\n", timer.it_value.tv_sec > 0);
	char cwd[4096];
	getcwd(cwd, sizeof cwd);
	printf("cwd: %s\n", strrchr(cwd, '/'));
	mode_t mask = umask(0);
	umask(mask);
	printf("umask: %o\n", mask);
	struct rlimit limit;
	getrlimit(RLIMIT_CORE, &limit);
	printf("core: %ld\n", (long)limit.rlim_cur);
	char name[16];
	prctl(PR_GET_NAME, name);
	printf("name: %s\n", name);
	printf("death signal, no_new_privs, keepcaps: ");
	int death;
	prctl(PR_GET_PDEATHSIG, &death);
	printf("%d %d %d\n", death, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_KEEPCAPS));
	printf("personality: %x\n", personality(0xffffffff));
	printf("fds: %d %d\n", fcntl(40, F_GETFD), fcntl(41, F_GETFD));
	printf("execfn: %s\n", (char *)getauxval(AT_EXECFN));
	printf("secure, uid: %ld %ld\n", getauxval(AT_SECURE), getauxval(AT_UID));
	fflush(stdout);
}

static void state(void) {
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	sigaction(SIGHUP, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGINT, &action, NULL);
	static char stack[65536];
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
	sigaltstack(&alt, NULL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	struct itimerval timer = {.it_value = {1000, 0}};
	setitimer(ITIMER_REAL, &timer, NULL);
	mkdir("inside", 0755);
	chdir("inside");
	umask(027);
	struct rlimit limit = {4096, 4096};
	setrlimit(RLIMIT_CORE, &limit);
	prctl(PR_SET_NAME, "renamed");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_KEEPCAPS, 1);
	personality(0x0400000 | 0x0000008);
	int fd = open("/dev/null", O_RDONLY);
	dup2(fd, 40);
	dup3(fd, 41, O_CLOEXEC);
	close(fd);
	// Memory of every kind goes.
	mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 1, 1 << 20);
	told();
	execl(self, "told", "told", NULL);
	perror("execl");
}

// Executes itself so many times over, with memory in use each time: nothing may be left behind.
static void again(const char *times) {
	int left = atoi(times);
	size_t bytes = 16 << 20;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	for (size_t at = 0; at < bytes; at += 1 << 20)
		memory[at] = 1;
	if (left == 0) {
		puts("done");
		return;
	}
	char next[16];
	snprintf(next, sizeof next, "%d", left - 1);
	execl(self, self, "again", next, NULL);
	perror("execl");
}

int main(int argc, char **argv) {
	self = realpath("/proc/self/exe", NULL);
	const char *deed = argc > 1 ? argv[1] : "";
	if (!strcmp(deed, "errors"))
		errors();
	else if (!strcmp(deed, "state"))
		state();
	else if (!strcmp(deed, "told"))
		told();
	else if (!strcmp(deed, "again"))
		again(argv[2]);
	else if (!strcmp(deed, "args")) {
		for (int i = 0; i < argc; i++)
			printf("[%s]", argv[i]);
		printf("\n");
	} else if (!strcmp(deed, "by-descriptor")) {
		int fd = open(self, O_RDONLY);
		char *args[] = {"named", "args", "x", NULL};
		syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH);
		perror("execveat");
	} else if (!strcmp(deed, "no-arguments")) {
		char *none[] = {NULL};
		execve(self, none, environ);
		perror("execve");
	} else
		printf("%d arguments, the first is \"%s\"\n", argc, argc ? argv[0] : "(none)");
	return 0;
}
