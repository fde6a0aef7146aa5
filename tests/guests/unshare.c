// A thread that takes its working directory, umask and descriptors for itself with unshare.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void *thread(void *arg) {
    printf("%d\n", unshare(CLONE_VM) ? errno : 0);
    printf("%d\n", unshare(CLONE_FS) ? errno : 0);
    printf("%d\n", unshare(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM) ? errno : 0);
    char where[100];
    printf("%d %o\n", chdir("/tmp"), umask(077));
    printf("%s\n", getcwd(where, sizeof where));
    // Only the thread's own table has these.
    printf("%d %d\n", close(9), open("/", O_RDONLY) < 0);
    return arg;
}

int main(void) {
    char where[100];
    setvbuf(stdout, NULL, _IONBF, 0);
    umask(022);
    chdir("/");
    dup2(1, 9);
    printf("%d\n", unshare(0x40) ? errno : 0);
    printf("%d\n", unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) ? errno : 0);
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
    printf("%s %o\n", getcwd(where, sizeof where), umask(0));
    printf("%d %d\n", fcntl(9, F_GETFD), fcntl(3, F_GETFD));
    printf("to the end\n");
    return 0;
}
