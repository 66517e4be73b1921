/* Records what a process has made durable, for a power cut that scripts play afterwards.
 *
 * Preloaded into one process. A seccomp filter sends fsync, fdatasync and syncfs (also raw system calls) to a SIGSYS
 * handler, which notes the length of the file (syncfs: of every file below CHAOS_SYNC_ROOT) before the call, makes the
 * call with a mark in an argument that the kernel ignores (the filter lets that pass), and after success appends
 * {inode, length} pairs to the file CHAOS_SYNC_LOG. Lengths are of the time before the call: never too much. Before each
 * call it waits CHAOS_SYNC_DELAY_US microseconds: a slow disk leaves more behind when the power goes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define MARK_HIGH 0x5374726fu
#define MARK_LOW 0x6d636b21u
#define MARK (((long)MARK_HIGH << 32) | MARK_LOW)
#define PAIRS 8192

struct pair {
    uint64_t inode, length;
};

static int log_fd = -1;
static char root[4096];
static useconds_t delay_us;

static void note(struct pair *pairs, size_t *count, const struct stat *facts) {
    if (S_ISREG(facts->st_mode) && *count < PAIRS) {
        pairs[*count].inode = facts->st_ino;
        pairs[*count].length = (uint64_t)facts->st_size;
        ++*count;
    }
}

static void walk(int dir_fd, struct pair *pairs, size_t *count, int depth) {
    struct stat facts;
    struct dirent *entry;
    DIR *dir = fdopendir(dir_fd);
    if (!dir) {
        close(dir_fd);
        return;
    }
    while ((entry = readdir(dir))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(dirfd(dir), entry->d_name, &facts, AT_SYMLINK_NOFOLLOW)) continue;
        if (S_ISDIR(facts.st_mode) && depth < 6) {
            int below = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (below >= 0) walk(below, pairs, count, depth + 1);
        } else {
            note(pairs, count, &facts);
        }
    }
    closedir(dir);
}

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number;
    ucontext_t *ucontext = context;
    greg_t *registers = ucontext->uc_mcontext.gregs;
    int call = info->si_syscall, fd = (int)registers[REG_RDI], saved = errno;
    struct stat facts;
    size_t count = 0;
    struct pair *pairs = malloc(sizeof(struct pair) * PAIRS);
    if (!pairs) abort();
    if (call == SYS_syncfs) {
        int top = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top >= 0) walk(top, pairs, &count, 0);
    } else if (!fstat(fd, &facts)) {
        note(pairs, &count, &facts);
    }
    if (delay_us) usleep(delay_us);
    long result = syscall(call, fd, MARK);
    registers[REG_RAX] = result < 0 ? -errno : result;
    if (result == 0 && count && write(log_fd, pairs, count * sizeof *pairs) != (ssize_t)(count * sizeof *pairs)) abort();
    free(pairs);
    errno = saved;
}

__attribute__((constructor)) static void install(void) {
    const char *path = getenv("CHAOS_SYNC_LOG"), *below = getenv("CHAOS_SYNC_ROOT");
    if (!path || !below) return;
    delay_us = getenv("CHAOS_SYNC_DELAY_US") ? (useconds_t)atoi(getenv("CHAOS_SYNC_DELAY_US")) : 0;
    snprintf(root, sizeof root, "%s", below);
    log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd < 0) abort();
    unsetenv("LD_PRELOAD");
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    if (sigaction(SIGSYS, &action, NULL)) abort();
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_syncfs, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK_LOW, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK_HIGH, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) abort();
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program)) abort();
}
