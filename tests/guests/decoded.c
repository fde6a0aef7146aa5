// Calls whose arguments point to something, for the log to show; some are made wrongly, some wait.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void handler(int signal) {}

int main(int argc, char **argv)
{
    static char text[64] = "a line\n\33[31m";
    if (argc > 1 && !strcmp(argv[1], "child"))
        return 7;
    int fd = open("/tmp/decoded", O_RDWR | O_CREAT | O_TRUNC, 0640);
    struct iovec vectors[2] = {{"one", 3}, {"two\n", 4}};
    writev(fd, vectors, 2);
    struct stat status;
    syscall(SYS_fstat, fd, &status);
    pread(fd, text, sizeof text, 0);
    open("/no/such/file", O_RDONLY);
    syscall(SYS_open, 16, O_RDONLY);
    // A part of a file that nobody has looked at: a recording lacks it.
    int large = open("/bin/bash", O_RDONLY);
    void *unread = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, large, 640 << 10);
    write(-1, unread, 5);
    close(large);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaddset(&action.sa_mask, SIGINT);
    sigaction(SIGUSR1, &action, NULL);
    int ends[2];
    pipe2(ends, O_CLOEXEC);
    struct pollfd polled = {ends[0], POLLIN, 0};
    poll(&polled, 1, 10);
    // Waits for the child, which is made to run first by that.
    pid_t child = fork();
    if (!child) {
        write(ends[1], "from the child", 14);
        char *args[] = {argv[0], "child", "with words", NULL};
        char *env[] = {"A=1", NULL};
        execve(argv[0], args, env);
        _exit(1);
    }
    char got[32];
    read(ends[0], got, sizeof got);
    poll(&polled, 0, 0);
    int ended;
    wait4(child, &ended, 0, NULL);
    struct timespec time = {0, 1000};
    syscall(SYS_nanosleep, &time, NULL);
    struct sockaddr_un name = {AF_UNIX, "/tmp/socket"};
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bind(listening, (void *)&name, sizeof name);
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct iovec part = {"message", 7};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    sendmsg(pair[0], &message, 0);
    write(1, "an end\n", 7);
    write(2, "an error\n", 9);
    return 3;
}
