/* What a program can learn of being stepped while an interval timer is armed. The first lines are
 * the same natively, and without a timer; the last ones count what the timer interrupted, which is
 * the same in every run. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define TF 0x100

static volatile unsigned long alarms, traps, faults, frame_flags, handler_flags, seen_in_trap;
static volatile int set_tf, clear_tf;

static inline unsigned long flags(void) {
    unsigned long value;
    __asm__ volatile("pushfq; popq %0" : "=r"(value)::"memory");
    return value;
}

static void on_alarm(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    alarms++;
    frame_flags |= regs[REG_EFL];
    handler_flags |= flags();
    if (set_tf) regs[REG_EFL] |= TF;
    set_tf = 0;
}

static void on_trap(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    traps++;
    seen_in_trap |= regs[REG_EFL];
    handler_flags |= flags();
    if (clear_tf) regs[REG_EFL] &= ~TF;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    faults++;
    frame_flags |= regs[REG_EFL];
    handler_flags |= flags();
    /* `movb %al, (%rcx)` has two bytes. */
    regs[REG_RIP] += 2;
}

/* A call to where nothing is: back from it. */
static void on_bus(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    faults++;
    frame_flags |= regs[REG_EFL];
    regs[REG_RIP] = *(greg_t *)regs[REG_RSP];
    regs[REG_RSP] += 8;
}

static void timer(long us, long interval_us) {
    struct itimerval t = {{interval_us / 1000000, interval_us % 1000000}, {us / 1000000, us % 1000000}};
    setitimer(ITIMER_REAL, &t, NULL);
}

/* What the stores of RFLAGS show. */
static void stores(void) {
    unsigned long wide, behind_ss, r11, spoiled;
    unsigned short narrow;
    __asm__ volatile("pushfw; popw %0" : "=r"(narrow)::"memory");
    __asm__ volatile("mov %%ss, %%ecx; mov %%ecx, %%ss; pushfq; popq %0" : "=r"(behind_ss)::"rcx", "memory");
    __asm__ volatile("syscall" : "=a"(spoiled) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    __asm__ volatile("syscall; mov %%r11, %1" : "=a"(spoiled), "=r"(r11) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    wide = flags();
    printf("stored: %lx %x %lx %lx\n", wide & TF, narrow & TF, behind_ss & TF, r11 & TF);
    __asm__ volatile("mov %%ss, %%ecx; mov %%ecx, %%ss; syscall; mov %%r11, %1"
                     : "=a"(spoiled), "=r"(r11) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    printf("syscall behind mov ss: %lx\n", r11 & TF);
}

/* The program's own stepping: how many instructions trap, and what it sees of the flag. */
static void own(void) {
    unsigned long inside, behind, spoiled;
    traps = seen_in_trap = 0;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
                     "nop; nop; pushfq; popq %0\n"
                     "pushfq; andq $~0x100, (%%rsp); popfq\n"
                     "nop; pushfq; popq %1"
                     : "=&r"(inside), "=&r"(behind)::"memory");
    printf("own: %lu traps, %lx %lx, in the frame %lx\n", traps, inside & TF, behind & TF, seen_in_trap & TF);
    traps = seen_in_trap = 0;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
                     "syscall\n"
                     "mov %%r11, %1\n"
                     "pushfq; andq $~0x100, (%%rsp); popfq"
                     : "=a"(spoiled), "=r"(inside) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    printf("own around a call: %lu traps, %lx\n", traps, inside & TF);
    traps = 0;
    __asm__ volatile("int3; nop");
    printf("breakpoints: %lu traps\n", traps);
}

/* `iretq` to the same privilege level, with the flag set in the middle of three. */
static void returns(void) {
    traps = 0;
    for (unsigned long tf = 0; tf < 3; tf++)
        __asm__ volatile("mov %%rsp, %%rdx; mov %%ss, %%eax; push %%rax; push %%rdx; pushfq; or %0, (%%rsp)\n"
                         "mov %%cs, %%eax; push %%rax; lea 1f(%%rip), %%rax; push %%rax; iretq\n"
                         "1: nop; nop; pushfq; andq $~0x100, (%%rsp); popfq"
                         ::"r"((tf & 1) << 8) : "rax", "rdx", "memory");
    printf("iretq: %lu traps, %lx\n", traps, flags() & TF);
}

/* Instructions that fault and are run again, or that repeat. */
static void repeats(void) {
    const size_t size = 64 * 4096;
    unsigned char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* Across the end of a page that nothing has touched, and from there across another. */
    void *d = fresh + 4000, *s;
    size_t n = 300;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(0x5a) : "memory");
    d = fresh + 3 * 4096 - 100, s = fresh + 4000, n = 300;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
    unsigned sum = 0;
    for (size_t i = 4096; i < size; i += 4096) fresh[i] += 1, sum += fresh[i] + *(uint32_t *)(fresh + i - 2);
    printf("repeats: %zu %x\n", n, sum);
    faults = 0;
    __asm__ volatile("movb %%al, (%%rcx)" ::"c"(8), "a"(1) : "memory");
    printf("faults: %lu\n", faults);
    munmap(fresh, size);
}

/* Code that ends with its page, in a mapping that is longer than its file. */
static void edges(void) {
    static const unsigned char code[] = {0x0f, 0x31, 0x9c, 0x58, 0xc3}; /* rdtsc; pushfq; popq %rax; ret */
    int file = open("/tmp/code", O_CREAT | O_RDWR | O_TRUNC, 0700);
    ftruncate(file, 4096);
    pwrite(file, code, sizeof code, 4096 - sizeof code);
    char *map = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    unsigned long flag = ((unsigned long (*)(void))(map + 4096 - sizeof code))() & TF;
    faults = 0;
    ((void (*)(void))(map + 4096))();
    printf("edges: %lx, %lu behind the end\n", flag, faults);
    munmap(map, 8192);
    close(file);
}

static void all(void) {
    frame_flags = handler_flags = 0;
    stores();
    own();
    returns();
    repeats();
    edges();
    printf("frames %lx, handlers %lx\n", frame_flags & TF, handler_flags & TF);
}

int main(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    action.sa_sigaction = on_trap;
    sigaction(SIGTRAP, &action, NULL);
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    action.sa_sigaction = on_bus;
    sigaction(SIGBUS, &action, NULL);
    all();
    timer(900000000, 0);
    all();
    timer(0, 0);

    /* A timer that goes off again and again, in a loop of one instruction, in a repeated one, and in
     * one that keeps changing its own flags. */
    unsigned long count = 0, rest = 0;
    frame_flags = handler_flags = 0;
    timer(20000, 10000);
    while (alarms < 5) count++;
    printf("ticks: %lu %lu\n", alarms, count);
    static unsigned char area[300];
    for (alarms = 0; alarms < 3; rest++) {
        void *d = area;
        size_t n = sizeof area;
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(1) : "memory");
    }
    printf("repeated: %lu\n", rest);
    for (alarms = count = 0; alarms < 3; count++) __asm__ volatile("pushfq; popfq; rdtsc" ::: "rax", "rdx", "memory");
    printf("flags: %lu\n", count);
    timer(0, 0);

    /* A handler that makes the interrupted program trap, once. */
    traps = alarms = 0;
    set_tf = clear_tf = 1;
    timer(10000, 0);
    while (!alarms || !traps) count++;
    printf("from a frame: %lu traps\n", traps);
    clear_tf = 0;

    /* Blocked, pending, and let through. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    alarms = 0;
    timer(10000, 0);
    for (volatile int i = 0; i < 200; i++) continue;
    printf("blocked: %lu\n", alarms);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("unblocked: %lu\n", alarms);
    printf("frames %lx, handlers %lx, %lu\n", frame_flags & TF, handler_flags & TF, count);
    return 0;
}
